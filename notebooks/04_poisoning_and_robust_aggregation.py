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
# # Poisoning and robust aggregation: can two of ten clients steer the model?
#
# Two clients plant a backdoor, plant it with an update five times as large, or push the model
# backwards. We look at their poisoned images, at the effect of the server's aggregation rule, and
# at a run in which they poison in some rounds only.

# %%
import pandas as pd

from fedlab import Federation, Scenario, compare
from fedlab.core.environment import environment
from fedlab.report.figures.poisoning_matrix import poisoning_matrix_figure
from fedlab.simulation.poison_preview import preview

print("about 2 minutes on two cores")
environment()

# %% [markdown]
# ## What a poisoned image looks like
# It has a white patch and the label 0: the network shall classify every image with the patch as 0.

# %%
patch = {"attack": "badnets", "target": 0, "share": 0.5, "size": 3}
bad = {"role": "poisoning", "clients": "8-9", "data": patch}
base = Scenario.load("quickstart").changed(
    rounds=6, model={"name": "convnet", "width": 16}, defenses=(), reconstructions=(), roles=[bad]
)
preview(base).plot(6)

# %% [markdown]
# ## Three attacks under four rules
# The mean, the median of each weight, Multi-Krum, which leaves out replies that stand apart, and
# norm clipping, which shortens long ones.

# %%
scaled = bad | {"update": {"attack": "scaling", "factor": 5.0}}
backwards = {
    "role": "poisoning",
    "clients": "8-9",
    "update": {"attack": "sign-flip", "factor": 5.0},
}
attacks = {"backdoor": bad, "backdoor, update x5": scaled, "sign flip x5": backwards}
rules = ["FedAvg", "FedMedian", "MultiKrum:num_malicious_nodes=2:num_nodes_to_select=6"]
rules += ["NormClipping"]

# %%
compared = [
    compare(
        base.changed(name=name, roles=[role]),
        ["none"],
        rules=rules,
        seeds=2,
        out=f"poisoning/{name}",
    )
    for name, role in attacks.items()
]

# %% [markdown]
# ## What gets through?
# Attack success is the share of test images with the patch that the network classifies as 0; chance
# is that share without the patch. The sign flip has no such goal; its effect shows in the accuracy.

# %%
poisoning_matrix_figure(pd.concat(each.frame for each in compared), rows="scenario")

# %% [markdown]
# ## Does the backdoor go away?
# The clients poison in rounds 2 to 5 only. The backdoor stays: on these digits no honest update
# removes it.

# %%
federation = Federation(
    base.changed(name="turns bad in round 2", rounds=12, roles=[scaled | {"rounds": "2-5"}])
)
federation.run()
federation.timeline()
