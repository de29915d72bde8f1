"""What the server asks of one client in one round; it travels as text in the message."""

from fedlab.core.settings import Settings
from fedlab.defenses import AnyDefense
from fedlab.scenario.roles import Honest, Role
from fedlab.scenario.tables import Privacy, Training


class CollusionTask(Settings):
    """What a poisoning client knows of others in a round, by its threat model.

    Attributes:
        known: Clients whose honest updates it knows: the colluding ones, its own included, or all
            those that do not poison.
        clients: In the cohort.
        malicious: Those among them that poison in the same way.
    """

    known: tuple[int, ...]
    clients: int
    malicious: int


class ClientTask(Settings):
    """One client's orders for one round.

    Attributes:
        round: Counted from 1.
        client: Partition id.
        lr: Learning rate of this round.
        training: Local SGD.
        role: What the client is in this round.
        defenses: What it runs in this round, in order; already empty for a client that
            does not obey.
        proximal_mu: Weight of FedProx' proximal term, 0 for other strategies.
        history: The client's accountant history as the server knows it, after a resume.
        privacy: How the client counts what it spends, for its budget.
        collusion: For a poisoning client that makes its update from honest ones.
    """

    round: int
    client: int
    lr: float
    training: Training
    role: Role = Honest()
    defenses: tuple[AnyDefense, ...] = ()
    proximal_mu: float = 0.0
    history: str | None = None
    privacy: Privacy = Privacy()
    collusion: CollusionTask | None = None

    @property
    def defense_names(self) -> str:
        """The defenses that run, joined by ``+``, or ``none``."""
        return "+".join(entry.name for entry in self.defenses) or "none"
