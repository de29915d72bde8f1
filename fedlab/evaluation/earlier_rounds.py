"""Earlier updates of a client that are of the same images as an attacked one."""

from pathlib import Path

from fedlab.scenario.scenario import Scenario
from fedlab.server.captures import Capture


def earlier_captures(
    folder: Path | None, capture: Capture, scenario: Scenario, *, rounds: int
) -> list[Capture]:
    """The latest kept captures before one with which it can be attacked jointly, in their order.

    They average as many images of the same client alone, and nothing changed the images or the
    network that the client was sent. A client that trains on all of its images has the same ones
    every round; of one that sends the gradient of a batch this cannot be known from a capture.

    Args:
        folder: Folder of the captures; ``None`` for none.
        capture: The captured update to attack.
        scenario: The scenario, which says what defenses are scheduled.
        rounds: Number of rounds to attack jointly, the attacked one included.
    """
    found: list[Capture] = []
    if folder is None or not _of_plain_images(capture, scenario):
        return found
    (client,) = capture.clients
    for number in range(capture.round - 1, 0, -1):
        if len(found) >= rounds - 1:
            break
        if not Capture.kept(folder, number, client):
            continue
        other = Capture.load(folder, round=number, client=client)
        as_many = other.payload.num_examples == capture.payload.num_examples
        if as_many and _of_plain_images(other, scenario):
            found.insert(0, other)
    return found


def needed_later(capture: Capture, scenario: Scenario) -> bool:
    """True if a later update of a client is to be attacked jointly with earlier ones."""
    return any(
        entry.rounds_jointly > 1
        for client in capture.clients
        for number in range(capture.round + 1, scenario.rounds + 1)
        for entry in scenario.reconstructions_on(round=number, client=client)
    )


def _of_plain_images(capture: Capture, scenario: Scenario) -> bool:
    """True if a capture is of one client's images as they are."""
    if len(capture.clients) > 1 or capture.facts.malicious is not None:
        return False
    defenses = scenario.scheduled_defenses(round=capture.round, client=capture.clients[0])
    return not any(each.mixes_images or each.draws_each_round for each in defenses)
