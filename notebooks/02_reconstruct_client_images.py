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
# A server that only looks at what it gets tries to rebuild the images behind it: of the gradient of
# one image, of a batch of four, and of new weights after local training. We watch an attack on its
# way, compare attacks, and check that a failure is not merely a wrong assumption.

# %%
import pandas as pd

from fedlab import AttackTrace, Federation, Scenario
from fedlab.core.environment import environment

print("about half a minute on one core")
environment()

# %% [markdown]
# ## One round of three clients that the server looks at
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
# A mean of four gradients tells less of each image, but on a network as wide as this it is enough.

# %%
federation.reconstruct(round=1, client=1, preset="fast", labels="inferred").show()

# %% [markdown]
# ## New weights after local training
# They are attacked by simulating that training, whose settings the server announced. Where an
# attack fails, `consistency` tells whether it is aimed right: from the true images the simulation
# must give the update that was captured, with a cosine near 1.

# %%
trained = federation.reconstruct(round=1, client=2, preset="fast", iterations=150)
print(federation.consistency(round=1, client=2))
trained.show()

# %% [markdown]
# ## Which attack?
# The same gradient of four images, labels granted. *chance* is the best guess without any update,
# and an image leaks if it is 3 dB above it and told from the client's others.

# %%
presets = ["idlg", "inverting-gradients", "modern", "fast"]
leaks = [
    federation.reconstruct(round=1, client=1, preset=preset, iterations=100).table()
    for preset in presets
]
scores = pd.concat(leaks).groupby("preset", sort=False)
scores[["psnr", "ssim", "chance_psnr", "seconds"]].median().round(2)
