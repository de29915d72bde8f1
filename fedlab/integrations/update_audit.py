"""Attack an update of another federation, and score what was rebuilt where truth is given."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from attacks.knowledge import LocalSGD, PublicImages
from attacks.reconstruction import Reconstruction
from attacks.reconstruction.components import name_of
from attacks.reconstruction.watch import Watch
from fedlab.core.devices import device_of
from fedlab.core.digest import digest
from fedlab.core.files import check_folder
from fedlab.core.network_errors import naming_network
from fedlab.integrations.audit import Audit, Terms
from fedlab.integrations.external_network import Network, network_name
from fedlab.integrations.external_update import (
    AttackableUpdate,
    Kind,
    reconstruct_exchange,
    reconstruction_entry,
)
from fedlab.integrations.image_files import Truth, public_images, true_images
from fedlab.integrations.update_files import Update
from fedlab.integrations.update_scores import (
    checked_truth,
    contradiction,
    infer_membership,
    measure_training,
    scored,
    unscored,
)
from fedlab.metrics.verdict import UNSCORED, setting
from fedlab.results.attacks import UNKNOWN
from fedlab.results.rows import LeakageRow
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attacker import attack_of

if TYPE_CHECKING:
    from flwr.app import ArrayRecord


def audit_update(
    before: "Path | str | Mapping[str, Tensor] | ArrayRecord",
    after: "Path | str | Mapping[str, Tensor] | ArrayRecord",
    model: Network,
    *,
    shape: tuple[int, int, int],
    classes: int,
    kind: Kind = "weights",
    num_images: int | None = None,
    labels: Sequence[int] | Tensor | None = None,
    local: LocalSGD | None = None,
    training_mode: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    truth: Truth | Path | str | None = None,
    public: PublicImages | str | None = None,
    page: Path | str | None = None,
    model_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    watch: Watch | None = None,
    **settings: Any,
) -> Audit:
    """Attack a client's update, check what was stated about it, and score it where truth is given.

    The attack gets neither the true images nor their labels; they only score it. Whatever makes it
    easier than a real one makes the result *diagnostic*. Where the update does not fit what was
    stated, or the rebuilt images, an image that was not found is *inconclusive*.

    Args:
        before: The global model that the client was sent: a file (.safetensors, a checkpoint of
            PyTorch, .npz), a ``state_dict``, or Flower's ``ArrayRecord``.
        after: The client's reply, likewise.
        model: The client's network: a module, a class or function that makes one,
            ``package.module:Net``, or a name as ``model.name`` of a scenario takes it.
        shape: Channels, height and width of an image.
        classes: Number of outputs of the network.
        kind: Content of the reply: ``weights`` after training, their ``difference`` from the
            weights that were sent, or the ``gradient`` of one batch.
        num_images: Number of images behind the reply; by default that of the labels, or of the
            true images.
        labels: Labels that the attacker is granted, in the order of the local batches; inferred by
            default.
        local: Local training of the client; needed for all but a gradient.
        training_mode: True if the client's network was in training mode.
        mean: Mean of the client's normalisation, one value or one per channel, on pixels in [0, 1];
            needed unless the network's first layer is torchvision's ``Normalize``.
        std: Standard deviation of the normalisation, one value or one per channel; needed likewise.
        truth: True images and their labels, or an .npz file with ``images`` and ``labels``.
        public: Images like the client's with their labels, none of them the client's, or a data set
            whose test images they are, such as ``"npz:public.npz"``. Without them nothing can be
            graded: chance and power are unknown.
        page: HTML file to write, in a folder that can be written to; see ``Audit.report``.
        model_options: Further arguments of the class or function that makes the network.
        seed: Seed of the attack.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        watch: Function that is called now and then with the progress.
        **settings: Further settings of a ``[[reconstructions]]`` entry, such as ``preset="fast"``,
            ``iterations=300``, ``seconds=20`` or ``power=False``.

    Raises:
        BadInput: If a file cannot be read, or files, network and facts do not fit each other.

    Example::

        audit = fedlab.audit_update(
            "before.pt",
            "after.pt",
            Net,
            shape=(3, 32, 32),
            classes=10,
            num_images=1,
            local=fedlab.LocalSGD(lr=0.01),
            mean=(0.5,),
            std=(0.25,),
            page="audit.html",
        )
        print(audit.verdict, audit.findings)
    """
    if page is not None:
        check_folder(Path(page).parent)
    true = true_images(truth)
    if num_images is None and labels is None and true is not None:
        num_images = len(true[0])
    update = Update(
        before=before,
        reply=after,
        model=model,
        shape=shape,
        classes=classes,
        kind=kind,
        num_images=num_images,
        labels=labels,
        local=local,
        training_mode=training_mode,
        mean=mean,
        std=std,
        public=public_images(public, shape, classes),
        model_options=model_options or {},
    ).attackable()
    reply = update.exchange.reply
    audit = audit_of(
        update,
        reconstruction_entry(settings),
        name="the update" if isinstance(after, Mapping) else Path(reply).name,
        network=network_name(model),
        truth=true,
        seed=seed,
        device=device,
        watch=watch,
    )
    if page is not None:
        audit.report(page)
    return audit


def audit_of(
    update: AttackableUpdate,
    entry: Reconstruct,
    *,
    name: str,
    network: str,
    truth: Truth | None,
    seed: int,
    device: str,
    watch: Watch | None,
    round: int = 1,
    client: int = 0,
) -> Audit:
    """Attack an update and score it.

    Args:
        update: The update, with all that is known about it.
        entry: Attack and budgets.
        name: The update in words.
        network: Name of the network.
        truth: True images and their labels; ``None`` if nobody here has them.
        seed: Seed of the attack.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        watch: Function that is called now and then with the progress.
        round: Round of the scores' rows.
        client: Client of the scores' rows.

    Raises:
        BadInput: If the facts do not fit each other.
    """
    images = None if truth is None else checked_truth(truth, update)
    found = reconstruct_exchange(
        update,
        attack_of(entry),
        entry=entry,
        seed=seed,
        device=device_of(device),
        watch=watch,
    )
    with naming_network("the network"):
        training = measure_training(update)
        membership = None if images is None else infer_membership(update, *images)
        doubts = () if images is None else contradiction(update, *images)
    found = replace(found, findings=(*found.findings, *doubts))
    terms = _terms(update, found, entry, network=network, training=training, seed=seed)
    row = _row(terms, found, round=round, client=client)
    leak = unscored(row, found) if images is None else scored(row, found, update, *images)
    return Audit(name, terms, leak, found.findings, membership)


def _terms(
    update: AttackableUpdate,
    found: Reconstruction,
    entry: Reconstruct,
    *,
    network: str,
    training: tuple[float, bool | None],
    seed: int,
) -> Terms:
    """What was stated about the update, measured of the network, and done by the attack."""
    known = update.knowledge
    accuracy, trained = training
    return Terms(
        network=network,
        shape=known.image_shape,
        classes=known.num_classes,
        kind=update.exchange.kind,
        num_images=known.num_images,
        steps=known.local.steps(known.num_images) if known.local else 1,
        local=known.local,
        training_mode=known.training_mode,
        mean=tuple(known.mean),
        std=tuple(known.std),
        labels_known=found.labels_known,
        order=known.order if isinstance(known.order, str) else "known",
        defenses=known.defenses,
        public=0 if known.public is None else len(known.public.images),
        accuracy=accuracy,
        trained=trained,
        preset=entry.preset,
        iterations=found.attack.iterations,
        restarts=found.attack.restarts,
        power=found.power,
        seed=seed,
        sent=digest(update.exchange.sent),
        received=digest(update.exchange.received),
    )


def _row(terms: Terms, found: Reconstruction, *, round: int, client: int) -> LeakageRow:
    """The row of an image with everything but its scores."""
    circumstances = setting(
        labels_known=terms.labels_known,
        steps=terms.steps,
        trained=terms.trained,
        training_mode=terms.training_mode,
        order_known=terms.order == "known",
    )
    return LeakageRow(
        round=round,
        client=client,
        role="honest",
        defenses="+".join(terms.defenses) or "none",
        preset=terms.preset,
        image=0,
        target=UNKNOWN,
        known_labels=found.labels_known,
        labels_guessed=found.labels_guessed,
        setting=circumstances.name,
        reasons=", ".join(circumstances.reasons),
        verdict=UNSCORED,
        objective=name_of(found.attack.objective),
        tv=found.attack.tv,
        iterations=len(found.costs),
        seconds=found.seconds,
        power=found.power,
    )
