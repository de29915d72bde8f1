"""A leak in a notebook: each true image beside what was rebuilt of it, with the scores."""

from typing import TYPE_CHECKING

import torch
from markupsafe import Markup
from torch import Tensor

from attacks.reconstruction.html import image_html
from fedlab.report.html.tables import html_table
from fedlab.report.tables.naming import under
from fedlab.report.tables.numbers import decibels, plain

if TYPE_CHECKING:
    from fedlab.evaluation.leaks import Leak

MOST = 16
"""Images that are shown."""


def leak_html(leak: "Leak") -> str:
    """A row for each image, with a line for each target that it was scored against."""
    first = leak.rows[0]
    shown = [row.image for row in leak.rows if row.target == "original"][:MOST]
    total = len(leak.originals)
    count = f", first {MOST} of {total} images" if total > MOST else ""
    known = "given" if first.known_labels else "inferred"
    why = f"; easier than a real attack by: {first.reasons}" if first.reasons else ""
    header = ["image", "true", "mixed", "rebuilt", "target", "PSNR", "chance", "SSIM"]
    return str(
        html_table(
            [name for name in header if leak.mixed is not None or name != "mixed"]
            + ["label right", "verdict"],
            [_line(leak, place, image) for place, image in enumerate(shown)],
            caption=f"What the server rebuilt of client {first.client}, round {first.round}{count}",
            note=f"{first.preset}, labels {known}, {under(first.defenses)}; "
            f"{first.threat} server, {first.setting} setting{why}.",
        )
    )


def _line(leak: "Leak", place: int, image: int) -> list[object]:
    rows = [row for row in leak.rows if row.image == image]
    strips = [("true", leak.originals), ("mixed", leak.mixed), ("rebuilt", leak.rebuilt)]
    return [
        str(image),
        *(
            _shown(each[place], f"{name} image {image}")
            for name, each in strips
            if each is not None
        ),
        "\n".join(row.target for row in rows),
        "\n".join(decibels(row.psnr) for row in rows),
        "\n".join(decibels(row.chance_psnr) for row in rows),
        "\n".join(plain(row.ssim) for row in rows),
        "\n".join(plain(row.label_correct) for row in rows),
        "\n".join(row.verdict for row in rows),
    ]


def _shown(image: Tensor, alt: str) -> Markup | str:
    """The image, or a dash where nothing was rebuilt."""
    if bool(torch.isnan(image).all()):
        return "-"
    return Markup(image_html(image, alt=alt, side=56))
