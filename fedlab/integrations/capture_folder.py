"""A folder of captures that ``fedlab.observe`` wrote, and the audits of them that it keeps."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from attacks.knowledge import PublicImages
from attacks.reconstruction.watch import Watch
from fedlab.core.errors import BadInput
from fedlab.integrations.audit import Audit
from fedlab.integrations.external_network import Network, network_name
from fedlab.integrations.external_update import reconstruction_entry
from fedlab.integrations.image_files import Truth, public_images, true_images
from fedlab.integrations.recorded_attack import attackable_capture
from fedlab.integrations.update_audit import audit_of

FACTS = ("num_images", "labels", "local", "mean", "std", "model_options")
"""Arguments of ``attackable_capture`` that are facts about the client."""


_REPLY = re.compile(r"reply-([0-9]+)-([0-9]+)\.safetensors")


class Kept(NamedTuple):
    """A reply that was kept.

    Attributes:
        round: Round number, counted from 1.
        client: Number of the client.
    """

    round: int
    client: int


class CaptureFolder:
    """A folder of captures.

    Args:
        path: The folder; nothing is read or made yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def replies(self) -> list[Kept]:
        """The replies that the folder has, by round and client."""
        names = (each.name for each in self.path.glob("reply-*.safetensors"))
        found = filter(None, map(_REPLY.fullmatch, names))
        return sorted(Kept(int(each[1]), int(each[2])) for each in found)

    @property
    def audit_files(self) -> list[Path]:
        """Files of the audits of captures so far, by round and client."""
        return sorted(self._audits.glob("round-*.npz"))

    @property
    def audits(self) -> list[Audit]:
        """The audits of captures so far, by round and client.

        Raises:
            BadInput: If a file is damaged.
        """
        return [Audit.load(file) for file in self.audit_files]

    def picture_file(self, kept: Kept) -> Path:
        """File of the picture of an audit, unless another one is asked for."""
        return self._file(kept).with_suffix(".png")

    def add(self, kept: Kept, audit: Audit) -> None:
        """Keep an audit, in place of an earlier one of the same reply."""
        self._audits.mkdir(exist_ok=True)
        audit.keep(self._file(kept))

    @property
    def _audits(self) -> Path:
        return self.path / "reconstructions"

    def _file(self, kept: Kept) -> Path:
        return self._audits / f"round-{kept.round:04d}-client-{kept.client:05d}.npz"


def open_captures(path: Path) -> CaptureFolder:
    """Open a folder of captures.

    Raises:
        BadInput: If it holds none.
    """
    folder = CaptureFolder(path)
    if not folder.replies:
        raise BadInput(f"{path} holds no captures of fedlab.observe")
    return folder


def audit_capture(
    folder: Path | str,
    *,
    round: int,
    client: int,
    model: Network,
    shape: tuple[int, int, int],
    classes: int,
    truth: Truth | Path | str | None = None,
    public: PublicImages | str | None = None,
    seed: int = 0,
    device: str = "auto",
    watch: Watch | None = None,
    **facts: Any,
) -> Audit:
    """Attack a capture, score it where true images are given, and keep the result in its folder.

    ``fedlab report`` writes a page about all results of a folder.

    Args:
        folder: Folder that ``fedlab.observe`` wrote.
        round: Round number, counted from 1.
        client: Number of the client.
        model: The app's network; see ``fedlab.audit_update``.
        shape: Channels, height and width of an image.
        classes: Number of outputs of the network.
        truth: True images and their labels, or an .npz file with ``images`` and ``labels``; they
            only score the attack.
        public: Images like the client's, or a data set; see ``fedlab.audit_update``.
        seed: Seed of the attack.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        watch: Function that is called now and then with the progress.
        **facts: ``num_images``, ``labels``, ``local``, ``mean``, ``std`` and ``model_options`` as
            in ``fedlab.audit_update``, and settings of a ``[[reconstructions]]`` entry.

    Raises:
        BadInput: If no capture was kept, or capture, network and facts do not fit each other.
    """
    captures = open_captures(Path(folder))
    entry = reconstruction_entry({k: v for k, v in facts.items() if k not in FACTS})
    true = true_images(truth)
    update = attackable_capture(
        folder,
        round=round,
        client=client,
        model=model,
        shape=shape,
        classes=classes,
        entry=entry,
        public=public_images(public, shape, classes),
        **{key: value for key, value in facts.items() if key in FACTS},
    )
    audit = audit_of(
        update,
        entry,
        name=f"round {round}, client {client}",
        network=network_name(model),
        truth=true,
        seed=seed,
        device=device,
        watch=watch,
        round=round,
        client=client,
    )
    captures.add(Kept(round, client), audit)
    return audit
