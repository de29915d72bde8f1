"""Preview of a data poisoning: a client's images before and after, without a round."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from fedlab.client.federated_data import FederatedData
from fedlab.client.poison import poison_shard
from fedlab.core.devices import prepare
from fedlab.core.errors import BadInput
from fedlab.core.plugins import PluginFailed
from fedlab.core.views import Viewable, show
from fedlab.data.shard import Shard
from fedlab.protocol.planning import task_for
from fedlab.scenario.roles import Poisoning
from fedlab.scenario.scenario import Scenario

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PoisonPreview(Viewable):
    """A client's images before and after poisoning.

    Attributes:
        client: Partition id.
        round: Round number, counted from 1.
        attack: Name of the data poisoning.
        clean: The client's own images.
        poisoned: The images that it would train on, in the same order.
        classes: Names of the classes, by label.
    """

    client: int
    round: int
    attack: str
    clean: Shard
    poisoned: Shard
    classes: tuple[str, ...]

    @property
    def changed(self) -> Tensor:
        """Places of the images whose pixels or label changed: int64 ``[n]``."""
        pixels = (self.clean.images != self.poisoned.images).flatten(1).any(1)
        return (pixels | (self.clean.labels != self.poisoned.labels)).nonzero().squeeze(1)

    def __str__(self) -> str:
        """The changes as one line."""
        relabelled = int((self.clean.labels != self.poisoned.labels).sum())
        levels = (self.clean.images.int() - self.poisoned.images.int()).abs().max()
        return (
            f"client {self.client} in round {self.round}, {self.attack}: {len(self.changed)} of "
            f"{len(self.clean)} images changed, no pixel by more than {int(levels)}/255, "
            f"{relabelled} relabelled"
        )

    def plot(self, images: int = 8) -> "Figure":
        """Draw clean images, poisoned images and their difference, magnified ten times.

        Args:
            images: Largest number of images, at least 1; the first changed ones are drawn.

        Raises:
            BadInput: If the client changes none of its images.
        """
        if not len(self.changed):
            raise BadInput(f"client {self.client} changes none of its images")
        figure: Figure = show(self, "plot", images=images)
        return figure


def preview(
    scenario: Scenario,
    *,
    client: int | None = None,
    round: int | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> PoisonPreview:
    """Poison a client's images as the client itself would, without running a round.

    Args:
        scenario: Scenario with a poisoning role.
        client: Partition id; by default the first client that poisons images.
        round: Round number, counted from 1; by default the first round in which the client poisons.
        state: Global parameters and buffers for poisons that are crafted against a model; by
            default the initial ones.

    Raises:
        BadInput: If the client poisons no images in that round, or they cannot be poisoned so.
    """
    cells = [
        (number, each)
        for number in range(1, scenario.rounds + 1)
        for each in range(scenario.data.clients)
        if (client is None or each == client) and (round is None or number == round)
    ]
    who = next((cell for cell in cells if _poison(scenario, *cell) is not None), None)
    if who is None:
        where = "" if client is None else f" by client {client}"
        when = "" if round is None else f" in round {round}"
        raise BadInput(f"no images are poisoned{where}{when} in this scenario")
    number, chosen = who
    prepare(scenario.engine.threads)
    federated = FederatedData.of(scenario)
    sent = federated.state if state is None else dict(state)
    sent = {name: value.to(federated.device) for name, value in sent.items()}
    federated.load(sent)
    clean = federated.shard(chosen)
    task = task_for(scenario, round=number, client=chosen)
    try:
        poisoned = poison_shard(clean, task, federated, sent)
    except (ValueError, PluginFailed) as error:
        raise BadInput(f"client {chosen} cannot poison its images: {error}") from error
    return PoisonPreview(
        client=chosen,
        round=number,
        attack=_poison(scenario, number, chosen) or "",
        clean=clean,
        poisoned=poisoned,
        classes=federated.data.classes,
    )


def _poison(scenario: Scenario, round: int, client: int) -> str | None:
    """Name of the data poisoning of a client in a round, if it has one."""
    role = scenario.role(round=round, client=client)
    return role.data.attack if isinstance(role, Poisoning) and role.data else None
