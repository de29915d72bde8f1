"""A column of leakage.csv."""

from fedlab.metrics.metric import metric


@metric("example_l1", label="L1 distance", higher_is_better=False, decimals=3)
def l1(truth, rebuilt):
    """Mean absolute difference of the pixels."""
    return (truth - rebuilt).abs().flatten(1).mean(1)
