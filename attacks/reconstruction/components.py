"""Tables of the parts of a reconstruction by name.

The tables hold import paths, so settings can be read and checked without importing PyTorch. Every
field of ``AttackSettings`` that takes a name also takes the object itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from attacks.reconstruction.initialisation import Initialisation
    from attacks.reconstruction.masks import Mask
    from attacks.reconstruction.methods import Method
    from attacks.reconstruction.objectives import ObjectiveFactory
    from attacks.reconstruction.output_layer import LabelRule
    from attacks.reconstruction.parametrisations import ParametrisationFactory
    from attacks.reconstruction.priors import Prior
    from attacks.reconstruction.schedules import Schedule

T = TypeVar("T")


class Components(Mapping[str, T]):
    """Components of one kind by name; a lookup imports the module of that component only.

    Args:
        kind: Word for one component in error messages.
        paths: Import path ``package.module:name`` of each component.
    """

    def __init__(self, kind: str, paths: Mapping[str, str]) -> None:
        self.kind = kind
        self.paths = dict(paths)

    def __getitem__(self, name: str) -> T:
        module, _, attribute = self.paths[name].partition(":")
        found: T = getattr(import_module(module), attribute)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def resolve(self, choice: str | T) -> T:
        """Return the component of that name, or the object itself if it is not a name."""
        return self[choice] if isinstance(choice, str) else choice

    def check(self, choice: object) -> None:
        """Raise an error unless the choice is a name in the table or an object.

        Raises:
            ValueError: If no component has that name.
        """
        if isinstance(choice, str) and choice not in self.paths:
            raise ValueError(f"{self.kind} is none of {', '.join(self)}: {choice}")


def _within(module: str, **names: str) -> dict[str, str]:
    """Import paths within one module, by the component's name with underscores for hyphens."""
    return {
        name.replace("_", "-"): f"attacks.reconstruction.{module}:{attribute}"
        for name, attribute in names.items()
    }


METHODS: Components[Method] = Components(
    "method",
    {
        **_within("methods", optimise="optimise", analytic="analytic", spear="spear"),
        **_within("cocktail_party", cocktail_party="cocktail_party"),
        **_within("learned", learned="untrained"),
    },
)
"""Whole reconstruction methods."""

OBJECTIVES: Components[ObjectiveFactory] = Components(
    "objective",
    _within(
        "objectives",
        cosine="cosine",
        layer_cosine="layer_cosine",
        l2="squared_error",
        l1="absolute_error",
        orthogonal="orthogonal",
        bottleneck="bottleneck",
    ),
)
"""Distances between payloads."""

MASKS: Components[Mask] = Components(
    "mask",
    _within(
        "masks",
        nonzero="nonzero",
        unsaturated="unsaturated",
        prominent="prominent",
    ),
)
"""Choices of the payload entries that are compared."""

PRIORS: Components[Prior] = Components(
    "prior",
    {
        **_within(
            "priors",
            total_variation="total_variation_prior",
            norm="norm_prior",
            statistics="statistics_prior",
            features="features_prior",
        ),
        **_within("graph_prior", graph_variation="graph_variation_prior"),
    },
)
"""Priors on images, in the order in which they are added up."""

LABEL_RULES: Components[LabelRule] = Components(
    "label rule",
    {
        **_within(
            "labels",
            auto="auto",
            idlg="idlg",
            counts="counts",
            conditional="conditional",
            ilrg="ilrg",
            yin="yin",
            llg="llg",
            mixed="mixed",
        ),
        **_within("label_factors", factorise="factorise"),
    },
)
"""Rules that infer labels from the gradient of the last layer."""

SCHEDULES: Components[Schedule] = Components(
    "schedule",
    _within("schedules", step="step", cosine="cosine", linear="linear", constant="constant"),
)
"""Schedules of the step size."""

INITIALISATIONS: Components[Initialisation] = Components(
    "initialisation",
    _within("initialisation", normal="normal", uniform="uniform", grey="grey", pattern="pattern"),
)
"""Distributions of the first images."""

PARAMETRISATIONS: Components[ParametrisationFactory] = Components(
    "parametrisation",
    {
        **_within("parametrisations", pixels="Pixels"),
        **_within("deep_decoder", deep_decoder="DeepDecoder"),
    },
)
"""What the search moves."""


def name_of(choice: Any) -> str:
    """Name of a component: a name as it is, the ``key`` of an object, or its import path."""
    if isinstance(choice, str):
        return choice
    if isinstance(key := getattr(choice, "key", None), str):
        return key
    named = choice if hasattr(choice, "__qualname__") else type(choice)
    return f"{named.__module__}:{named.__qualname__}"
