"""The task of one client in one round, which the server sends as text in the message."""

from collections import OrderedDict

from fedlab.core.settings import Settings
from fedlab.defenses import AnyDefense
from fedlab.scenario.roles import Honest, Role
from fedlab.scenario.tables import Privacy, Training


class CollusionTask(Settings):
    """The honest updates that a colluding client knows in a round.

    Attributes:
        known: Partition ids of the clients whose honest updates it knows: the colluding ones, or
            all that do not poison.
        clients: Number of clients in the cohort.
        malicious: Number of clients in the cohort with the same attack.
    """

    known: tuple[int, ...]
    clients: int
    malicious: int


MOST_KEPT = 1024
"""Number of tasks that ``ClientTask.read`` knows without reading them."""

_WRITTEN: OrderedDict[str, "ClientTask"] = OrderedDict()


class ClientTask(Settings):
    """The task of one client in one round.

    Attributes:
        round: Round number, counted from 1.
        client: Partition id of the client.
        lr: Learning rate of the round.
        training: Settings of local SGD.
        role: Role of the client in the round.
        defenses: Defenses that the client runs, in order; empty for a client that does not run
            them.
        proximal_mu: Weight of the proximal term of FedProx, 0 for other strategies.
        history: Privacy history of the client as the server knows it, sent after a resume.
        unanswered: Costs of tasks whose replies the server does not have, for a client that has
            lost its own history: it may have sent them.
        privacy: Accountant and delta by which the client counts its privacy budget.
        collusion: Knowledge of a client whose update attack is made from honest updates.
        exposed: True if a colluding client knows the update that this honest client would send
            without its defenses; false by default.
        observes: True if the client keeps the global parameters that it receives, for an update
            attack of its own in this round or a later one; false by default.
        published: Hashes, each once, of what was sent to clients of the round that publish them,
            for one that compares them. In reality the server must not be able to change them.
        reply_timeout: Seconds after which the client gives up; ``None`` for no limit.
    """

    round: int
    client: int
    lr: float
    training: Training
    role: Role = Honest()
    defenses: tuple[AnyDefense, ...] = ()
    proximal_mu: float = 0.0
    history: str | None = None
    unanswered: str | None = None
    privacy: Privacy = Privacy()
    collusion: CollusionTask | None = None
    exposed: bool = False
    observes: bool = False
    published: tuple[str, ...] = ()
    reply_timeout: float | None = None

    def to_text(self) -> str:
        """Write the task as JSON."""
        text = self.model_dump_json(exclude_none=True)
        _WRITTEN[text] = self
        if len(_WRITTEN) > MOST_KEPT:
            _WRITTEN.popitem(last=False)
        return text

    @classmethod
    def read(cls, text: str) -> "ClientTask":
        """Read a task that ``to_text`` wrote, in this process or in another one.

        Raises:
            ValueError: If the text is no task.
        """
        return _WRITTEN.get(text) or cls.model_validate_json(text)

    @property
    def defense_names(self) -> str:
        """Names of the defenses that run, joined by ``+``, or ``none``."""
        return "+".join(entry.name for entry in self.defenses) or "none"
