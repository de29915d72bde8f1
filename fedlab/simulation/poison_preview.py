"""What a poisoning client would do to its images, looked at before a run."""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure
from torch import Tensor

from fedlab.client.federated_data import FederatedData
from fedlab.client.poison import poison_shard
from fedlab.core.devices import prepare
from fedlab.core.errors import BadInput
from fedlab.defenses.pipeline import Shard
from fedlab.protocol.planning import task_for
from fedlab.report.figures.poison import PoisonColumn, poison_figure
from fedlab.scenario.roles import Poisoning
from fedlab.scenario.scenario import Scenario


@dataclass(frozen=True)
class PoisonPreview:
    """A client's shard before and after it tampered with it.

    Attributes:
        client: Partition id.
        round: Counted from 1.
        attack: What it does.
        clean: Its own images.
        poisoned: What it would train on, in the same order.
        classes: Names of the labels.
    """

    client: int
    round: int
    attack: str
    clean: Shard
    poisoned: Shard
    classes: tuple[str, ...]

    @property
    def changed(self) -> Tensor:
        """Places of the images whose pixels or label changed, int64."""
        pixels = (self.clean.images != self.poisoned.images).flatten(1).any(1)
        return (pixels | (self.clean.labels != self.poisoned.labels)).nonzero().squeeze(1)

    def __str__(self) -> str:
        """One line about what changed."""
        relabelled = int((self.clean.labels != self.poisoned.labels).sum())
        levels = (self.clean.images.int() - self.poisoned.images.int()).abs().max()
        return (
            f"client {self.client} in round {self.round}, {self.attack}: {len(self.changed)} of "
            f"{len(self.clean)} images changed, no pixel by more than {int(levels)}/255, "
            f"{relabelled} relabelled"
        )

    def plot(self, images: int = 8) -> Figure:
        """Clean and poisoned images, and their difference ten times as large.

        Args:
            images: How many of the changed ones, the first by place.

        Raises:
            BadInput: If none changed.
        """
        places = self.changed[:images].tolist()
        if not places:
            raise BadInput(f"client {self.client} changes none of its images")
        return poison_figure(
            [
                PoisonColumn(
                    clean=self.clean.images[place].float().div(255).cpu(),
                    poisoned=self.poisoned.images[place].float().div(255).cpu(),
                    label=self.classes[int(self.clean.labels[place])],
                    told=self.classes[int(self.poisoned.labels[place])],
                )
                for place in places
            ],
            title=f"What does client {self.client} train on? ({self.attack})",
        )


def preview(
    scenario: Scenario,
    *,
    client: int | None = None,
    round: int | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> PoisonPreview:
    """Let a client make its poison, without a round.

    Args:
        scenario: Says who poisons what.
        client: Partition id; the first one that poisons images unless given.
        round: Counted from 1; the first one in which that client does unless given.
        state: Global parameters and buffers that it brews with; the initial ones unless given.

    Raises:
        BadInput: If nobody poisons images there, or these cannot be poisoned so.
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
    except ValueError as error:
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
    """What a client does to its images in a round, if it does anything."""
    role = scenario.role(round=round, client=client)
    return role.data.attack if isinstance(role, Poisoning) and role.data else None
