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
# # Reconstruct client images: what does an update give away?
#
# A server that only reads what it receives tries to rebuild the images behind it: from the gradient
# of one image, from that of a batch of four, and from new weights after local training. We watch an
# attack converge, compare attacks, and check that a failure is not merely a wrong assumption.

# %%
import pandas as pd

from fedlab import AttackTrace, Federation, Scenario
from fedlab.core.environment import environment

print("about half a minute on one core")
environment()

# %% [markdown]
# ## One round, three kinds of updates
# Client 0 sends the gradient of one image, client 1 that of four, and client 2 its weights after
# training on its eight images for two epochs. `captures.keep` makes the server keep all replies.

# %%
scenario = Scenario(
    name="updates",
    rounds=1,
    data={"source": "digits", "train": 160, "clients": 20},
    model={"name": "convnet", "width": 48},
    training={"epochs": 2, "batch_size": 4, "lr": 0.02},
    roles=[
        {"role": "leaking", "clients": "0", "batch_size": 1},
        {"role": "leaking", "clients": "1", "batch_size": 4},
    ],
    captures={"keep": "all"},
)
federation = Federation(scenario)
print(federation.step())

# %% [markdown]
# ## The gradient of one image
# The attacker starts from noise and changes it until it causes the same gradient: cosine distance,
# total variation, signed Adam (Inverting Gradients). It has to infer the label as well.

# %%
trace = AttackTrace()
single = federation.reconstruct(
    round=1, client=0, labels="inferred", iterations=400, tv=1e-4, watch=trace
)
trace.plot(single.originals)

# %% [markdown]
# ## A batch of four
# The mean of four gradients says less about each image, but on a wide network it is enough.

# %%
federation.reconstruct(round=1, client=1, preset="fast", labels="inferred").show()

# %% [markdown]
# ## New weights after local training
# The attack simulates that training, whose settings the server chose. Where an attack fails,
# `consistency` checks its assumptions: from the true images the simulation must give the captured
# update, with a cosine near 1.

# %%
trained = federation.reconstruct(round=1, client=2, preset="fast", iterations=150)
print(federation.consistency(round=1, client=2))
trained.show()

# %% [markdown]
# ## Which attack?
# The same gradient of four images, with known labels. *chance* is the best guess without any
# update; an image leaks if it is 3 dB above chance and closer to the true image than to the
# client's other images of its class.

# %%
presets = ["idlg", "inverting-gradients", "modern", "fast"]
leaks = [
    federation.reconstruct(round=1, client=1, preset=preset, iterations=100).table()
    for preset in presets
]
scores = pd.concat(leaks).groupby("preset", sort=False)
scores[["psnr", "ssim", "chance_psnr", "seconds"]].median().round(2)
