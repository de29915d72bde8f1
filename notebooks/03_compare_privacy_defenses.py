# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Compare privacy defenses: what does each hide, and what does it cost?
#
# We run the same ten clients with handwritten digits undefended and under four defenses, each with
# two seeds. Two clients leak the gradient of one image in every round, two others plant a backdoor.
# The result is a table, a few pictures, and a page to send to somebody.

# %%
from fedlab import Scenario, compare
from fedlab.core.environment import environment

print("about 2 minutes on two cores")
environment()

# %% [markdown]
# ## Configure and run
# `compare` puts each defense on all rounds and clients and keeps the roles. The attacker infers
# labels and adapts to the defense that is on. Finished runs are cached: a second call with the same
# arguments is instant, and an interrupted one continues.

# %%
scenario = Scenario.load("quickstart").changed(
    rounds=4,
    defenses=(),
    reconstructions=[{"clients": "0-1", "preset": "fast", "labels": "inferred", "iterations": 150}],
)
defenses = ["none", "dp-sgd", "dp-instahide", "pruning", "clip-noise:noise_multiplier=0.02"]

# %%
comparison = compare(scenario, defenses, seeds=2, out="comparison")
comparison

# %% [markdown]
# ## Is it worth it?
# Up and to the left is better. Defenses with an epsilon show it; one of thousands says nothing.

# %%
comparison.plot()

# %%
comparison.chance()

# %% [markdown]
# ## Look at the images
# Numbers can mislead: here is what the server saw.

# %%
comparison.wall()

# %% [markdown]
# ## One tidy table, and a page to send
# `frame` has a row for each defense, seed, attack, round and client.

# %%
columns = ["defense", "seed", "round", "client", "accuracy", "psnr", "chance_psnr", "epsilon_total"]
comparison.report()
comparison.frame[comparison.frame["images"] > 0][columns].round(2).groupby("defense").head(2)
