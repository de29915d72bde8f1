"""Settings of a reconstruction attack that would change nothing in it are refused."""

from collections.abc import Collection, Sequence

from fedlab.core.errors import BadInput
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attacker import attack_of
from fedlab.server.captures import READ_OUT, Capture

ASSUMPTIONS = frozenset({"labels", "order", "mode", "adapt", "power"})
"""Settings that belong to no preset. Commands give some of them always."""

SEARCH = "optimise"
"""The built-in method that simulates several local steps or rounds."""


def refuse_unused_settings(
    capture: Capture, entry: Reconstruct, given: Collection[str], earlier: Sequence[Capture]
) -> None:
    """Refuse settings that somebody gave for an attack on one capture in which they do nothing.

    Args:
        capture: The captured update.
        entry: Settings of the attack.
        given: Names of the settings that were given; all others have their default.
        earlier: Earlier captures that can be attacked jointly with this one, no more than were
            asked for.

    Raises:
        BadInput: If a setting would change nothing.
    """
    update = f"the update of {capture.of} in round {capture.round}"
    malicious, jointly = capture.facts.malicious, entry.rounds_jointly
    if malicious in READ_OUT:
        if unused := sorted(set(given) - ASSUMPTIONS):
            raise BadInput(
                f"in round {capture.round} the server attacks by {malicious}, which reads images "
                f"out without any preset or setting: leave {', '.join(unused)} out"
            )
        return
    one_gradient = entry.local_steps in ("gradient", "surrogate")
    method = attack_of(entry).method
    if isinstance(method, str) and method != SEARCH and (jointly > 1 or one_gradient):
        name = "rounds_jointly" if jointly > 1 else "local_steps"
        raise BadInput(
            f"the method {method} does not use {name}: leave it out, or choose a preset that "
            "searches for images, such as fast"
        )
    if jointly > 1 and (len(capture.clients) > 1 or malicious):
        raise BadInput(
            "only updates of one client to an honest server are attacked jointly, not "
            f"{update}: leave rounds_jointly out"
        )
    if jointly > 1 + len(earlier):
        most = f"set it to {1 + len(earlier)}" if earlier else "leave it out"
        raise BadInput(
            f"rounds_jointly is {jointly}, but {update} has {len(earlier) or 'no'} earlier "
            f"one{'s' * (len(earlier) > 1)}, kept and of the same images under the same "
            f"defenses: {most}, or run with --set captures.keep=all and choose a later round"
        )
    if one_gradient and all(each.payload.steps == 1 for each in (capture, *earlier)):
        raise BadInput(
            f"local_steps is for several local steps, but {update} is of a single one: leave it out"
        )
