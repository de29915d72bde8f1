"""Guard around a defense from outside this package: it names the defense and checks its claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import wraps
from typing import TYPE_CHECKING, Any

from fedlab.core.plugins import PluginFailed, describe
from fedlab.defenses.pipeline import Batch, Pipeline, Withheld
from fedlab.privacy.accounts import Account
from fedlab.privacy.release import OPEN, PrivacyRelease

if TYPE_CHECKING:
    from fedlab.defenses.pipeline import ClientContext, Update

RESULTS: dict[str, type] = {
    "transform": Batch,
    "held": Batch,
    "releases": Mapping,
    "charges": PrivacyRelease,
}
"""Types that functions of a pipeline must return; the others return nothing that is read."""


@dataclass(frozen=True)
class Guard:
    """Runs a foreign defense, so that nothing it raises, returns or charges goes unnoticed.

    Attributes:
        name: Name of the defense, for messages and the ledger.
        account: Account that its class states; ``None`` if it claims no epsilon.
    """

    name: str
    account: Account | None = None

    def apply(
        self,
        wrap: Callable[[Pipeline, ClientContext], Pipeline],
        pipeline: Pipeline,
        context: ClientContext,
    ) -> Pipeline:
        """Call the defense's ``wrap``, and guard every function that it put into the pipeline.

        Args:
            wrap: The defense's method.
            pipeline: Pipeline with the defenses before this one.
            context: The client's round.

        Raises:
            PluginFailed: If the defense raises, returns something else than a pipeline, removes
                parts of other defenses, charges by anything but its account, or states an account
                and charges nothing.
        """
        wrapped: Pipeline = self._guarded(wrap, Pipeline)(pipeline, context)
        earlier = len(pipeline.planned)
        for name in ("planned", "charges", "inspections", "close"):
            others = tuple(getattr(pipeline, name))
            if tuple(getattr(wrapped, name))[: len(others)] != others:
                raise PluginFailed(f'defense "{self.name}": wrap removed {name} of other defenses')
        if len(wrapped.inspections) > len(pipeline.inspections):
            # Whether the update is sent then depends on the images, which no epsilon covers.
            opened = PrivacyRelease(context.round, context.participation, OPEN)
            wrapped = wrapped.charged(opened)
        if self.account is not None and len(wrapped.planned) == earlier:
            raise PluginFailed(
                f'defense "{self.name}": it states an account but charges nothing; charge the '
                "round by pipeline.charged(self.release(...))"
            )
        for cost in wrapped.planned[earlier:]:
            self._check_charge(cost, context)
        changes: dict[str, Any] = {}
        for field in fields(Pipeline):
            before, after = getattr(pipeline, field.name), getattr(wrapped, field.name)
            result = RESULTS.get(field.name)
            if field.name == "sampler" and after is not before:
                changes[field.name] = self._guarded_sampler(after)
            elif isinstance(after, tuple):
                changes[field.name] = tuple(
                    self._guarded(each, result, context, withholds=field.name == "inspections")
                    if callable(each) and each not in before
                    else each
                    for each in after
                )
            elif callable(after) and after is not before:
                changes[field.name] = self._guarded(after, result, context)
        return replace(wrapped, **changes)

    def _check_charge(self, cost: PrivacyRelease, context: ClientContext) -> None:
        """Refuse a charge that the ledger could take for a guarantee which nobody states."""
        if (cost.round, cost.participation) != (context.round, context.participation):
            raise PluginFailed(
                f'defense "{self.name}": it charges another round or participation than its own; '
                "charge by pipeline.charged(self.release(context, ...))"
            )
        if cost.mechanism == OPEN:
            return
        account = self.account
        stated = account and (
            account.unit,
            account.adjacency,
            account.sensitivity if cost.noise_multiplier is not None else None,
            account.needs_public_labels or None,
        )
        entry = (cost.unit, cost.adjacency, cost.sensitivity, cost.needs_public_labels)
        if cost.mechanism != self.name or stated != entry:
            raise PluginFailed(
                f'defense "{self.name}": it charges as "{cost.mechanism}", and not by its own '
                "account; set account = Account(...) in its class, and charge by "
                "pipeline.charged(self.release(...))"
            )

    def _guarded(
        self,
        function: Callable[..., Any],
        result: type | None = None,
        context: ClientContext | None = None,
        *,
        withholds: bool = False,
    ) -> Callable[..., Any]:
        """Wrap a function so that its errors, and results of a wrong type, name the defense."""

        @wraps(function)
        def guarded(*arguments: Any) -> Any:
            with self.naming_errors(withholds=withholds):
                found = function(*arguments)
            if result is not None and not isinstance(found, result):
                what = getattr(function, "__name__", type(function).__name__)
                raise PluginFailed(
                    f'defense "{self.name}": {what} returned {type(found).__name__}, not a '
                    f"{result.__name__}"
                )
            if isinstance(found, PrivacyRelease) and context is not None:
                self._check_charge(found, context)
            if result is Mapping:
                self._check_update(arguments[0], found)
            return found

        return guarded

    def _check_update(self, before: Update, after: Update) -> None:
        """Refuse an update whose tensors are not those that the client was about to send."""
        shapes = {name: getattr(tensor, "shape", None) for name, tensor in after.items()}
        if shapes != {name: tensor.shape for name, tensor in before.items()}:
            raise PluginFailed(
                f'defense "{self.name}": it returned an update with other names or shapes than '
                "the update that it got"
            )

    def _guarded_sampler(self, sampler: Callable[[], Iterator[Any]]) -> Callable[[], Iterator[Any]]:
        """Wrap a sampler, whose errors come up while it is iterated over."""

        def guarded() -> Iterator[Any]:
            with self.naming_errors():
                batches = iter(sampler())
            while True:
                with self.naming_errors():
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch

        return guarded

    @contextmanager
    def naming_errors(self, *, withholds: bool = False) -> Iterator[None]:
        """Name the defense in whatever is raised inside; inspections may also withhold."""
        try:
            yield
        except PluginFailed:
            raise
        except Withheld as error:
            if withholds:
                raise
            raise PluginFailed(
                f'defense "{self.name}": only an inspection may withhold an update; add it by '
                "pipeline.inspected(...)"
            ) from error
        except Exception as error:
            raise PluginFailed(f'defense "{self.name}" failed: {describe(error)}') from error
