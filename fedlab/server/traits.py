"""Properties of an aggregation rule that the server depends on, whoever wrote the rule."""

from dataclasses import dataclass, fields, replace

from flwr.serverapp.strategy import (
    Bulyan,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedProx,
    FedYogi,
    MultiKrum,
)

_LINEAR = (FedAvg, FedAvgM, FedAdam, FedAdagrad, FedYogi, FedProx)

LINEAR = tuple(rule.__name__ for rule in _LINEAR)
"""Names of Flower's rules that need no more than the weighted mean of the replies."""


@dataclass(frozen=True)
class RuleTraits:
    """Properties of an aggregation rule; a rule sets them as class attributes of the same names.

    Attributes:
        linear: True if the rule needs no more than the weighted mean of the replies, so that it
            works under secure aggregation and with central differential privacy.
        selects: True if the rule chooses among the replies and reports which ones it used.
        needs_root: True if the rule compares replies with an update that the server trains itself
            on root images. It then gets that update by its method ``set_root``.
        double_precision: True if the rule is given the replies in float64.
        fewest_replies: Number of replies, at least 1, below which the global model stays as it is.
        passes_options: True if the rule holds another one, which gets the options that it lacks.
    """

    linear: bool = False
    selects: bool = False
    needs_root: bool = False
    double_precision: bool = False
    fewest_replies: int = 1
    passes_options: bool = False


# Krum and Bulyan cannot tell one of two replies from the other. Flower computes distances from
# squared norms, which in float32 says little about models that are close to each other.
_ROBUST = RuleTraits(selects=True, double_precision=True, fewest_replies=3)


def traits_of(rule: FedAvg | type[FedAvg]) -> RuleTraits:
    """Read the properties of an aggregation rule; what it does not state is the default.

    Args:
        rule: The rule, or its class where its options do not matter.
    """
    kind = rule if isinstance(rule, type) else type(rule)
    # A subclass of a linear rule may compute anything, unless it says that it is linear as well.
    known = _ROBUST if issubclass(kind, Bulyan | MultiKrum) else RuleTraits(linear=kind in _LINEAR)
    names = [field.name for field in fields(RuleTraits) if hasattr(rule, field.name)]
    return replace(known, **{name: getattr(rule, name) for name in names})
