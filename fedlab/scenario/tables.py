"""The tables of a scenario file, one class each."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from fedlab.core.attack_plugins import (
    ATTACKS,
    LABEL_RULES,
    OBJECTIVES,
    PRESETS,
    PRIORS,
    choice_of,
)
from fedlab.core.errors import BadInput
from fedlab.core.plugins import Registry, has_stand_in
from fedlab.core.schedule import MOST, ClientsText
from fedlab.core.settings import LARGEST, Count, Scheduled, Settings
from fedlab.data.registry import PARTITIONS
from fedlab.metrics.metric import METRICS
from fedlab.models.registry import Norm
from fedlab.privacy.accountant_name import AccountantName
from fedlab.scenario.rules import RULES


def _registered(registry: Registry[Any]) -> AfterValidator:
    """Refuse a name that stands for no plug-in, without importing the plug-in."""

    def check(name: str) -> str:
        try:
            registry.path(name)
        except BadInput as error:
            if not has_stand_in(name):
                raise ValueError(str(error)) from error
        return name

    return AfterValidator(check)


def _plugin(registry: Registry[Any]) -> BeforeValidator:
    """Take the name of a plug-in or the plug-in itself, and refuse a name that is unknown."""

    def check(given: Any) -> Any:
        name = choice_of(given)
        if isinstance(name, str):
            try:
                registry.path(name)
            except BadInput as error:
                if not has_stand_in(name):
                    raise ValueError(str(error)) from error
        return name

    return BeforeValidator(check)


def _as_pairs(given: Any) -> Any:
    return tuple(given.items()) if isinstance(given, Mapping) else given


def _as_table(given: Any) -> Any:
    return None if given is None else dict(given)


Weights = Annotated[
    tuple[tuple[Annotated[str, _plugin(PRIORS)], Annotated[float, Field(ge=0)]], ...],
    BeforeValidator(_as_pairs),
]
"""A table of weights by the name of a prior, as pairs so that it can be hashed."""

MetricName = Annotated[str, _plugin(METRICS)]
"""Name of a metric that becomes one more column of ``leakage.csv``."""


class Data(Settings):
    """The images, and how they are spread over the clients."""

    source: str = "digits"
    """Data set: a name from ``fedlab list datasets``, ``folder:PATH``, ``npz:PATH``, ``hf:NAME`` of
    the Hugging Face Hub, your own function as ``package.module:function``, or ``factory``."""
    factory: str | None = None
    """With ``source = "factory"``: ``package.module:function`` that returns an ImageData."""
    root: str = "~/.cache/fedlab"
    """Folder in which downloaded data sets are stored."""
    download: bool = False
    """Download a data set that is missing from ``root``."""
    image_size: int | None = Field(default=None, ge=4, le=4096)
    """Side in pixels, from 4 to 4096, to which images of ``folder:PATH`` and ``hf:NAME`` are
    resized; by default they keep their size."""
    label_by: str | None = None
    """Column of ``hf:NAME`` with the labels, where several could be."""
    group_by: str | None = None
    """Column of ``hf:NAME`` that says where each image comes from, such as a hospital or a writer,
    for the partition ``natural``."""
    train: Count | None = Field(default=None, ge=1)
    """Number of training images to keep, drawn by seed; all by default."""
    test: Count | None = Field(default=None, ge=1)
    """Number of test images to keep, drawn by seed; all by default."""
    clients: int = Field(default=10, ge=1, le=MOST)
    """Number of clients, at most 100,000."""
    partition: Annotated[str, _registered(PARTITIONS)] = "iid"
    """How the training images are spread: ``iid``, ``dirichlet``, ``classes``, ``natural``, your
    own function as ``package.module:function``, or a partitioner of Flower Datasets as
    ``flwr_datasets.partitioner:NAME``."""
    alpha: float = Field(default=0.5, gt=0)
    """Concentration of the ``dirichlet`` partition, above 0: small values are skewed."""
    classes_per_client: Count = Field(default=2, ge=1)
    """Number of classes of each client under the ``classes`` partition."""
    partition_options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of a partitioner of Flower Datasets, such as ``partition_by = "label"``. Its
    columns are ``label`` and, where it is known, ``group``; its number of partitions is
    ``clients``."""


class Model(Settings):
    """The network that all clients train."""

    name: str = "convnet"
    """Name from ``fedlab list models``, name of a torchvision classifier, your own function as
    ``package.module:function``, or ``factory``."""
    factory: str | None = None
    """With ``name = "factory"``: ``package.module:function`` that makes the network from ``shape``
    and ``classes`` alone."""
    width: int | None = Field(default=None, ge=1, le=65_536)
    """Channels of the first layer, or units of a hidden layer; the network's usual number by
    default."""
    norm: Norm | None = None
    """Normalisation layers, ``group``, ``batch`` or ``none``; the network's usual ones by
    default."""
    bias_start: float | None = Field(default=None, ge=-1000, le=1000)
    """Value of every bias before the first round, from -1,000 to 1,000; the network's usual ones by
    default. At -20 all ReLUs are off and gradients tell labels only, at 20 hardly any changes its
    state and the network is linear (arXiv 1910.00359). A client sees such weights by the share of
    ReLUs that are on."""
    bottleneck: int | None = Field(default=None, ge=1, le=65_536)
    """Number of latent units of a variational bottleneck before the last linear layer, the defense
    PRECODE (WACV 2022), from 1 to 65,536; the paper has 256. No bottleneck by default."""


class Training(Settings):
    """Local SGD at every client."""

    epochs: Count = Field(default=1, ge=1)
    """Passes over a client's images in each round."""
    batch_size: Count = Field(default=32, ge=1)
    """Images in a batch; the expected number under Poisson sampling."""
    lr: float = Field(default=0.1, gt=0)
    """Learning rate of the first round."""
    lr_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor of the learning rate: that of round r is ``lr * lr_decay ** (r - 1)``."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Momentum of SGD, from 0 to below 1."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of SGD."""
    norm_target: float = Field(default=0.0, ge=0)
    """Squared L2 norm of all weights together to which ``weight_decay`` draws them, at least 0: it
    shrinks weights above it and makes those below it grow (arXiv 1910.00359). 0 is ordinary weight
    decay. The term is added after clipping and noise, so it costs no epsilon."""
    mode: Literal["train", "eval"] = "train"
    """Mode of the clients' network: in ``eval`` BatchNorm takes the statistics that the server
    sent, as the public code of gradient inversion assumes."""
    share_buffers: bool = False
    """Send BatchNorm statistics too. They leak, and the round then counts as open."""

    @model_validator(mode="after")
    def _target_needs_decay(self) -> Self:
        if self.norm_target and not self.weight_decay:
            raise ValueError(
                "norm_target has no effect without weight_decay, the strength by which it draws: "
                "set weight_decay above 0, or leave norm_target out"
            )
        return self


class Imprint(Settings):
    """A malicious server puts a block before the network that writes single images into gradients.

    Every client can see it in the architecture (arXiv 2110.13057).
    """

    attack: Literal["imprint"] = "imprint"
    bins: int = Field(default=128, ge=2, le=65_536)
    """Number of hidden units of the block; take several for each image of a batch."""
    frequency: Count = Field(default=0, ge=0)
    """Frequency of the cosine by which the block tells images apart; 0 is their mean brightness."""


class ClassFishing(Scheduled):
    """A malicious server sends a last layer through which one class alone sends a gradient.

    The client can see it in the weights (arXiv 2202.00580). The reply of such a client does not
    become part of the global model.
    """

    attack: Literal["class-fishing"] = "class-fishing"
    target: Count = Field(default=0, ge=0)
    """The class whose images the server wants to see."""


class TrapWeights(Scheduled):
    """A malicious server sends a first fully connected layer that catches single images.

    Each unit answers to few images of a batch; an image that is alone in activating one is read out
    exactly. The client can see that units react to few or none of its images. The reply of such a
    client does not become part of the global model. Under secure aggregation all clients of a sum
    must be sent the same weights.
    """

    attack: Literal["trap-weights"] = "trap-weights"
    rule: Literal["quantile", "halves"] = "quantile"
    """How the weights are chosen: ``quantile`` has normal weights and biases at a quantile (QBI,
    arXiv 2406.18745), ``halves`` negative halves that outweigh positive ones (arXiv
    2112.02918)."""
    batch_size: Count | None = Field(default=None, ge=1)
    """Number of images of which a unit should catch one, at least 1; by default the largest number
    of images behind one update or sum of the round, as the server knows it."""
    norm: float = Field(default=0.577, gt=0)
    """Norm of the weights of each unit, above 0; 0.577, that of PyTorch's initial weights, by
    default. Of clients that send weights and not gradients, a smaller one such as 0.02 loses less
    to rounding, and is easier to see."""


class Suppression(Scheduled):
    """A malicious server leaves one client's gradient in a secure sum by suppressing all others.

    All other clients of the sum are sent weights under which every ReLU is dead, so that they send
    back a gradient of the last layer's bias alone (arXiv 2111.07380). Such a client can see that no
    unit of its network is ever active; clients that compare hashes of what they were sent see that
    theirs differ. The global model moves by the target's share only, and its last bias stays.
    """

    attack: Literal["suppression"] = "suppression"
    clients: ClientsText = "0"
    """The client whose update is left in the sum, exactly one."""


Tampering = Imprint | ClassFishing | TrapWeights | Suppression
"""How a malicious server tampers with what it sends."""

Malicious = Annotated[Tampering, Field(discriminator="attack")]


NO_PROTECTION = (
    "central DP gives no protection from this server, which sees every reply before it is clipped"
)
"""Sentence beside every result of a run with ``server.central_dp``."""


class CentralDP(Settings):
    """Flower's server-side differential privacy: clip each reply and add noise to their mean.

    It protects from those who see the global model, and not from this server, which sees every
    reply before it is clipped. Replies then weigh the same, whatever their number of examples.
    """

    noise_multiplier: float = Field(default=1.0, ge=0)
    """Standard deviation of the noise on the sum, in units of the clipping norm."""
    clipping_norm: float = Field(default=1.0, gt=0)
    """Largest L2 norm of the change that one reply makes."""


class Rank(Settings):
    """Change of the rank of all convolutions but the first, after aggregation.

    The singular values of the filters at each spatial frequency are changed (arXiv 1910.00359). As
    a step after aggregation it costs no epsilon, and clients do nothing else.
    """

    change: Literal["min", "max"]
    """``min`` sets singular values below the bound to 0, ``max`` lowers those above it to it."""
    bound: float | None = Field(default=None, gt=0)
    """Bound of the singular values, which are factors of length, above 0; by default 0.5 for
    ``min`` and 1.5 for ``max``."""
    grid: int = Field(default=32, ge=1, le=256)
    """Number of spatial frequencies along each side of the grid, from 1 to 256; at least the side
    of the filters is taken. The singular values of a layer are exact for the side of its input in
    pixels."""
    every: Count = Field(default=1, ge=1)
    """Number of rounds from one change to the next; 1 is after every round."""

    @property
    def limit(self) -> float:
        """The bound that is set, or else the usual one."""
        return self.bound or (0.5 if self.change == "min" else 1.5)


class Server(Settings):
    """How replies become the next global model."""

    strategy: Annotated[str, _registered(RULES)] = "FedAvg"
    """Aggregation rule: a name from ``fedlab list rules``, or your own class as
    ``package.module:Name``."""
    options: dict[str, float | int | bool | str] = Field(default_factory=dict)
    """Keyword arguments of the aggregation rule."""
    cohort: Count | None = Field(default=None, ge=1)
    """Number of clients sampled in each round; all clients by default."""
    max_failures: float = Field(default=1.0, ge=0, le=1)
    """Share of the cohort, from 0 to 1, that may fail before the run stops. It always stops if all
    fail."""
    reply_timeout: float | None = Field(default=3600.0, gt=0, le=10**7)
    """Seconds after which a client that has not replied counts as failed in its round, above 0;
    one hour by default."""
    min_clients: int | None = Field(default=None, ge=1, le=LARGEST)
    """Number of clients that must be there when the run starts or resumes, at least 1; all by
    default. A run that has started goes on with any that are left, or with at least this many."""
    max_examples: int | None = Field(default=None, ge=1, le=LARGEST)
    """Largest number of examples that a reply may claim; others are refused. No limit by
    default."""
    cap_examples: int | None = Field(default=None, ge=1, le=LARGEST)
    """Largest number of examples by which a reply is weighted, whatever it claims. No limit by
    default."""
    root_images: Count = Field(default=100, ge=1)
    """Number of training images that the server keeps for rules that need some, such as
    ``FLTrust``. They are drawn by seed before the others are spread over the clients."""
    central_dp: CentralDP | None = None
    """Differential privacy by the server, for comparison; off by default."""
    rank: Rank | None = None
    """Change of the rank of the global model's convolutions; none by default."""
    malicious: Malicious | None = None
    """Active attack of the server; by default it is honest but curious."""

    @property
    def needs_root(self) -> bool:
        """True if the aggregation rule needs an update that the server trains on root images."""
        return bool(getattr(RULES.get(self.strategy), "needs_root", False))


def _ray_address(address: str | None) -> str | None:
    host, _, port = (address or "").rpartition(":")
    if address in (None, "auto") or (host and "/" not in host and port.isdecimal()):
        return address
    raise ValueError('write host:port of the cluster\'s head, such as "10.0.0.1:6379", or "auto"')


class Engine(Settings):
    """The engine that carries the messages, and its hardware."""

    name: Literal["in-process", "ray", "deployment"] = "in-process"
    """``in-process`` runs clients in this process and others of this machine, ``ray`` in those of a
    Ray cluster, and under ``deployment`` they are Flower SuperNodes with images of their own
    (``fedlab deploy``)."""
    address: Annotated[str | None, AfterValidator(_ray_address)] = None
    """Ray cluster whose CPUs all run clients, as Ray names it: ``host:port`` of its head, or
    ``auto`` for the one that this machine is a node of; only with ``name = "ray"``. By default the
    one of the environment variable ``RAY_ADDRESS``, else one that is started on this machine."""
    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1`` and so on; ``auto`` takes a GPU if there is one."""
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = "auto"
    """Number of processes that share the clients of a round (in-process engine) and the attacks.
    ``auto`` takes one for each core, at most 16 and as memory allows, once a run has taken some
    seconds; on a GPU, with ``clients_at_once`` above 1, or with a plug-in that the notebook or
    script itself defines, it takes one. With ``ray`` it takes as many as the cluster has CPUs,
    divided by ``threads``. Results are the same bits."""
    threads: int = Field(default=1, ge=1, le=1024)
    """Number of PyTorch threads of every process, at most 1,024. Results are the same bits for
    equal numbers."""
    clients_at_once: int = Field(default=1, ge=1, le=1024)
    """Largest number of clients that one process trains in lockstep, as one network with stacked
    weights (in-process engine); 1 by default, one after another. These are honest clients with
    equal numbers of images whose defenses act on the update alone. The network must not draw random
    numbers. Results are the same bits for equal numbers, and the same but for rounding for others;
    it pays where the processor is idle with one client."""
    cuda_graph: bool = False
    """Record the step of local SGD as a CUDA graph, and replay it for all clients whose defenses
    leave the gradient of a batch as it is. It saves time where launching a small network's kernels
    takes longer than running them, and has no effect on a CPU; false by default. The network must
    compute the same at every step: what its code decides while it is recorded holds for all."""

    @model_validator(mode="after")
    def _address_is_of_ray(self) -> Self:
        if self.address is not None and self.name != "ray":
            raise ValueError(
                f'address is that of a Ray cluster, but name is "{self.name}": set engine.name = '
                '"ray", or leave the address out'
            )
        return self

    @property
    def deployed(self) -> bool:
        """True if the clients' images are on other machines, out of the server's reach."""
        return self.name == "deployment"

    @model_validator(mode="after")
    def _check_lockstep(self) -> Self:
        if self.clients_at_once > 1 and self.name != "in-process":
            raise ValueError(
                f'clients_at_once is {self.clients_at_once}, but with name = "{self.name}" every '
                'client trains alone: set it to 1, or name to "in-process"'
            )
        return self


class Privacy(Settings):
    """How privacy loss is counted, in the same way for every client."""

    accountant: AccountantName = "rdp"
    """Accountant of Gaussian noise: ``rdp``, ``prv`` and ``pld`` are upper bounds, of which ``pld``
    is the smallest; ``gdp`` is an approximation, which certifies nothing."""
    delta: float = Field(default=1e-5, gt=0, lt=1)
    """Delta of every epsilon of Gaussian noise, between 0 and 1."""
    labels_public: bool = False
    """Declare labels public: DP-InstaHide's formal epsilon holds for images given their labels,
    and has a total only then."""


class Audit(Settings):
    """Canaries in one client's data, which bound its epsilon from below (arXiv 2305.08846).

    Each canary joins the client's images by a fair coin. The auditor never sees the coins, and
    infers from the client's updates which canaries joined.
    """

    client: Count = Field(default=0, ge=0)
    """Partition id of the audited client."""
    canaries: int = Field(default=200, ge=200, le=100_000)
    """Number of canary images, at least 200; about half of them join."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Probability, at least, that the bound is not above the true epsilon."""
    background: Count = Field(default=500, ge=0)
    """Largest number of public images by which the auditor models the client's other images."""


class Reconstruct(Scheduled):
    """Rounds and clients that the server attacks, and the settings of the attack.

    Keys of plug-ins take a built-in name, the name of an installed package's entry point, or
    ``package.module:Name``; in Python they also take the function itself.
    """

    preset: Annotated[str, _plugin(PRESETS)] = "auto"
    """Preset whose settings the other keys replace; ``auto`` chooses its own settings on surrogate
    clients, and other keys then fix what it does not choose."""
    labels: Literal["known", "inferred"] = "known"
    """Labels of the images: ``known`` to the attacker, or ``inferred`` from the update."""
    order: Literal["known", "sequential", "average"] = "sequential"
    """Order of the images in local steps: ``known`` to the attacker, assumed ``sequential`` and the
    same in every epoch, or approximated by the ``average`` over all images."""
    rounds_jointly: Count = Field(default=1, ge=1)
    """Number of rounds that are attacked jointly, at least 1; by default 1. With more, the latest
    earlier updates of the same images are used as well. Which gradients are of the same batch is
    granted to the attacker, so that such a result is diagnostic."""
    most_images: Count | None = Field(default=None, ge=1)
    """Largest number of images behind an attacked update; by default 64, and 1,024 for
    ``cocktail-party``, since more take long. With more than 64, an attack that would not fit into
    the free memory is left out, and its rows say so."""
    mode: Literal["announced", "train", "eval"] = "announced"
    """Mode of the network that the attacker simulates; ``announced`` is the mode that the server
    asked for."""
    adapt: bool = True
    """Adapt the attack to the defense that is on, as an adaptive adversary would. Under DP-SGD the
    objective and the total variation then follow from its noise, whatever is set below."""
    tuning_iterations: Count | None = Field(default=None, ge=1)
    """Iterations that ``auto`` spends on surrogate clients of one kind; by default 14 for each
    iteration of the final attack. For ``learned`` it is the number of surrogate clients to train
    on, by default 8,192 but at most 8 for each public image."""
    tuning_seconds: float | None = Field(default=None, gt=0)
    """Wall time in seconds that ``auto`` spends in place of ``tuning_iterations``; the choice then
    depends on the machine's speed."""
    power: bool = True
    """Measure the power of the attack on surrogate clients without a defense."""
    seconds: float | None = Field(default=None, gt=0)
    """Time budget of one reconstruction in seconds, none by default; the result then depends on the
    machine's speed."""
    workers: int = Field(default=1, ge=1, le=1024)
    """Number of restarts that run at the same time, each on one thread; the result is the same."""
    method: Annotated[str | None, _plugin(ATTACKS)] = None
    """Reconstruction method; by default that of the preset, as for all keys below."""
    iterations: Count | None = Field(default=None, ge=1)
    """Number of steps of each restart; for ``learned`` the largest number of passes over the
    surrogate clients."""
    tv: float | None = Field(default=None, ge=0)
    """Weight of the total variation."""
    lr: float | None = Field(default=None, gt=0)
    """Step size of the attack in normalised pixels."""
    restarts: Count | None = Field(default=None, ge=1)
    """Number of starting points; the one with the lowest matching cost wins."""
    objective: Annotated[str | None, _plugin(OBJECTIVES)] = None
    """Distance between the simulated and the captured update: ``cosine``, ``layer-cosine``, ``l2``,
    ``l1``, ``orthogonal``, ``bottleneck``, or a plug-in."""
    priors: Annotated[Weights | None, PlainSerializer(_as_table)] = None
    """Weights of priors by name, at least 0: ``total-variation``, ``norm``, ``statistics``,
    ``features``, ``graph-variation``, or plug-ins. They replace the preset's weights of the same
    priors."""
    local_steps: Literal["unroll", "gradient", "surrogate"] | None = None
    """How an update of several local steps is explained: ``unroll``, the default, simulates each
    step, ``gradient`` takes the update for one gradient at the global weights, and ``surrogate``
    for one at a point between the global and the client's weights, which is found along with the
    images; the last two cost less and need SGD."""
    label_rule: Annotated[str | None, _plugin(LABEL_RULES)] = None
    """Rule that infers unknown labels: ``auto``, ``idlg``, ``counts``, ``yin``, ``llg``, ``mixed``,
    ``joint``, or a plug-in."""
    mask: Literal["nonzero", "unsaturated", "prominent"] | None = None
    """Entries of the update to compare: ``nonzero`` for those that pruning left, ``unsaturated``
    for those below the bound of a clipping of single values, ``prominent`` for those that stand out
    of OUTPOST's noise; all by default."""
    patience: Count | None = Field(default=None, ge=1)
    """Stop once the matching cost fell by less than a thousandth over this many iterations."""

    @model_validator(mode="after")
    def _order_needs_labels(self) -> Self:
        if self.order == "known" and self.labels != "known":
            raise ValueError(
                'order = "known" refers to images by their index, so it needs labels = "known": '
                "inferred labels have an order of their own"
            )
        return self


class Captures(Settings):
    """Which replies are kept on disk as the server saw them."""

    keep: Literal["attacked", "all", "none"] = "attacked"
    """Replies of attacked clients, all replies, or none."""
