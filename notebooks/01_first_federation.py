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
# # A first federation: what does the server see of a client's images?
#
# Ten clients hold handwritten digits. Two of them send the raw gradient of one image, as FedSGD
# does, and the server tries to rebuild that image. We step through rounds, switch defenses on and
# off by hand, and look at what each of them hides and costs. A scenario is the whole experiment as
# data; we take the one that ships with the package, without its schedule of defenses.

# %%
from fedlab import Federation, Scenario
from fedlab.core.environment import environment

print("about 1 minute on one core")
environment()

# %%
scenario = Scenario.load("quickstart").changed(defenses=())
scenario

# %% [markdown]
# ## Run one open round
# `reconstruct` attacks the reply that the server kept. Here it infers the label from the gradient,
# as a real server would have to. *chance* is the best of three trivial guesses.

# %%
federation = Federation(scenario)
print(federation.step())
leak = federation.reconstruct(round=1, client=0, labels="inferred", iterations=300)
leak.show()

# %% [markdown]
# ## Switch DP-SGD on for the two leaking clients
# Each client clips its gradient and adds Gaussian noise before it sends it.

# %%
federation.toggle("dp-sgd", on=True, clients=[0, 1], noise_multiplier=1.0)
print(federation.step())
federation.reconstruct(round=2, client=0, labels="inferred", iterations=300).show()

# %% [markdown]
# ## DP-InstaHide instead
# Each client mixes four images into one and adds noise. The server rebuilds the mixture well, and
# the image much less.

# %%
federation.toggle("dp-sgd", on=False, clients=[0, 1])
federation.toggle("dp-instahide", on=True, clients=[0, 1], k=4)
print(federation.step())
federation.reconstruct(round=3, client=0, labels="known", iterations=300).show()

# %% [markdown]
# ## What did each defense hide, and what did it cost?
# The bands show which defenses were on, with toggles marked above them. Epsilon is finite only for
# a client that was protected in every round; a cross marks where a total became infinite.

# %%
federation.timeline()

# %%
federation.table()
