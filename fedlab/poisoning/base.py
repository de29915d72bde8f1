"""The base class of every data poison: one subclass in one file is a whole poison."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import PlainValidator, SerializeAsAny

from fedlab.core.plugins import Plugin, PluginFailed, Registry, check_subclass, describe
from fedlab.data.shard import Shard

if TYPE_CHECKING:
    from fedlab.poisoning.context import Goal, PoisoningContext, Stream


class DataPoison(Plugin, ABC):
    """A change of a client's images and labels before it trains.

    A subclass declares its settings as fields and implements ``poison``. If it wants the global
    model to make certain predictions, it also implements ``goal``, and the run reports how often
    the model makes them. A scenario names it as ``data = { attack = "package.module:Name" }``.

    Example:
        >>> from dataclasses import replace
        >>> from fedlab.poisoning import DataPoison
        >>> class Darken(DataPoison):
        ...     "Darken every image."
        ...     factor: float = 0.5
        ...
        ...     def poison(self, shard, context):
        ...         return replace(shard, images=(shard.images * self.factor).byte())
    """

    tag = "attack"
    registry: ClassVar[Registry[type[DataPoison]]]

    attack: str = ""
    """Name of the poison: a built-in one, an entry point, or ``package.module:Name``."""

    @property
    def couples_images(self) -> bool:
        """True if a changed image depends on the client's other images; true by default.

        DP-SGD then bounds the influence of no single image. A poison that changes each image on its
        own, and chooses none of them by the number of others, overrides this.
        """
        return True

    @abstractmethod
    def poison(self, shard: Shard, context: PoisoningContext) -> Shard:
        """Return the images and labels that the client trains on.

        Args:
            shard: The client's clean images and labels; leave them unchanged.
            context: Network, public images, training settings and random generators.

        Raises:
            ValueError: If these images cannot be poisoned in this way.
        """

    def goal(self, test: Shard, common: Stream) -> Goal | None:
        """Return the predictions that the poison is meant to cause; ``None`` if there are none.

        Args:
            test: The test images.
            common: Random generators that all clients share.

        Raises:
            ValueError: If the settings do not fit the images.
        """
        return None

    def apply(self, shard: Shard, context: PoisoningContext) -> Shard:
        """Call ``poison``, check its result, and name the poison in every error.

        Raises:
            ValueError: If these images cannot be poisoned in this way.
            PluginFailed: If the poison raises anything else, or returns no shard.
        """
        with name_in_errors(self):
            poisoned = self.poison(shard, context)
            if not isinstance(poisoned, Shard):
                raise TypeError(f"poison returned {type(poisoned).__name__}, not a Shard")
            return poisoned

    def find_goal(self, test: Shard, common: Stream) -> Goal | None:
        """Call ``goal``, and name the poison in every error.

        Raises:
            ValueError: If the settings do not fit the images, or no test image can show success.
            PluginFailed: If the poison raises anything else.
        """
        with name_in_errors(self):
            found = self.goal(test, common)
            if found is not None and not len(found.images):
                raise ValueError(
                    "no test image is of a class that would show whether it succeeds: raise "
                    "data.test"
                )
            return found


@contextmanager
def name_in_errors(plugin: Plugin) -> Iterator[None]:
    """Put the plug-in's name in front of what it raises.

    Raises:
        ValueError: If the plug-in raises one: its own sentence about inputs that do not fit.
        PluginFailed: If the plug-in raises anything else.
    """
    try:
        yield
    except PluginFailed:
        raise
    except ValueError as error:
        raise ValueError(f"{plugin.key}: {error}") from error
    except Exception as error:  # a plug-in may raise anything
        kind = plugin.registry.kind
        raise PluginFailed(f'{kind} "{plugin.key}" failed: {describe(error)}') from error


POISONS: Registry[type[DataPoison]] = Registry(
    "data poison",
    group="fedlab.poisons",
    builtin={
        "label-flip": "fedlab.poisoning.label_flip:LabelFlip",
        "badnets": "fedlab.poisoning.badnets:BadNets",
        "blended": "fedlab.poisoning.blended:Blended",
        "sinusoidal": "fedlab.poisoning.sinusoidal:Sinusoidal",
        "distributed": "fedlab.poisoning.distributed:Distributed",
        "gradient-matching": "fedlab.poisoning.gradient_matching:GradientMatching",
        "metapoison": "fedlab.poisoning.metapoison:MetaPoison",
        "availability": "fedlab.poisoning.availability:Availability",
        "hidden-trigger": "fedlab.poisoning.hidden_trigger:HiddenTrigger",
    },
    check=check_subclass(DataPoison),
)
"""Every data poison that a scenario can name."""

DataPoison.registry = POISONS

AnyPoison = Annotated[SerializeAsAny[DataPoison], PlainValidator(DataPoison.parse_table)]
"""Type of a field that accepts any data poison: an instance, a table with its name, or the name."""
