"""What a server sees of the app of docs/attack-your-flower-app.md, by the training of its clients.

The page's own code runs, in this process instead of Flower's simulation.
"""

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp.strategy import FedAvg

from attacks.knowledge import LocalSGD, PublicImages
from benchmarks.options import Options
from benchmarks.report import THREADS, Figure, Report, console
from fedlab import observe
from fedlab.engine.in_process import InProcessGrid
from fedlab.integrations.audit import Audit

PAGE = Path(__file__).resolve().parents[1] / "docs" / "attack-your-flower-app.md"
TRAINING: Mapping[str, Mapping[str, Any]] = {
    "SGD, 1 image, 1 step": {"optimiser": "sgd", "images": 1, "batch": 1, "epochs": 1},
    "Adam, 1 image, 1 step": {"optimiser": "adam", "images": 1, "batch": 1, "epochs": 1},
    "SGD, 8 images, 1 step": {"optimiser": "sgd", "images": 8, "batch": 8, "epochs": 1},
    "SGD, 8 images, 6 steps": {"optimiser": "sgd", "images": 8, "batch": 4, "epochs": 3},
    "Adam, 8 images, 6 steps": {"optimiser": "adam", "images": 8, "batch": 4, "epochs": 3},
}
"""Training of the clients; six steps are three epochs of shuffled batches of four."""

CLIENTS, ROUNDS, PUBLIC = 4, 2, slice(800, 1700)


class Configured(InProcessGrid):
    """A grid whose clients get a run config, as ``flwr run`` gives it."""

    config: Mapping[str, Any]

    def _context(self, node: int) -> Context:
        context = super()._context(node)
        context.run_config.update(self.config)
        return context


def run(options: Options) -> Report:
    """Run the app with every training, and attack all replies."""
    torch.set_num_threads(THREADS)
    with TemporaryDirectory() as home:
        (code,) = re.findall(
            r"^```python\n# digits_app\.py\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S
        )
        (Path(home) / "digits_app.py").write_text(code, "utf-8")
        sys.path.insert(0, home)
        try:
            app = import_module("digits_app")
        finally:
            sys.path.remove(home)
        figures = [
            figure
            for name, training in TRAINING.items()
            for figure in measure(app, name, training, Path(home) / name.replace(" ", "-"))
        ]
    return Report(
        title="What does a server see of an app by the training of its clients?",
        settings={
            "app": "docs/attack-your-flower-app.md, BatchNorm in training mode, in one process",
            "attack": "fast, labels inferred, 900 public digits",
            "clients": CLIENTS,
            "round 1": "untrained network",
        },
        figures=figures,
    )


def measure(app: Any, name: str, training: Mapping[str, Any], folder: Path) -> list[Figure]:
    """Figures of one training: an image, a client or a reply is one value."""
    grid = Configured(app.client, CLIENTS)
    grid.config = training
    kind = training["optimiser"]
    local = LocalSGD(
        app.RATES[kind],
        optimiser=kind,
        epochs=training["epochs"],
        batch_size=training["batch"],
    )
    torch.manual_seed(0)  # also of the order in which clients shuffle
    strategy = observe(FedAvg(fraction_evaluate=0.0), folder, local=local)
    strategy.start(grid, ArrayRecord(app.Net().state_dict()), num_rounds=ROUNDS)
    public = PublicImages(*app.digits(PUBLIC.start, PUBLIC.stop - PUBLIC.start))
    figures = []
    for round in range(1, ROUNDS + 1):
        audits: list[Audit] = [
            strategy.audit(
                round=round,
                client=client,
                model=app.Net,
                shape=(1, 8, 8),
                classes=10,
                mean=(app.MEAN,),
                std=(app.STD,),
                truth=app.digits(100 * client, training["images"]),
                public=public,
                preset="fast",
                power=False,
                device="cpu",
            )
            for client in range(CLIENTS)
        ]
        rows = [row for audit in audits for row in audit.leak.rows]
        tests = [audit.membership.auc for audit in audits if audit.membership]
        title = f"{name}, round {round}"
        figures += [
            Figure(f"{title}: leaks", "", [float(row.verdict == "leaks") for row in rows]),
            Figure(f"{title}: PSNR", "dB", [row.aligned_psnr for row in rows]),
            Figure(f"{title}: chance PSNR", "dB", [row.chance_psnr for row in rows]),
            Figure(f"{title}: labels found", "", [row.label_accuracy for row in rows]),
            Figure(f"{title}: membership AUC", "", tests),
            Figure(f"{title}: in doubt", "", [float(bool(audit.findings)) for audit in audits]),
        ]
        leaking = sum(row.verdict == "leaks" for row in rows)
        console.print(f"{title}: {leaking} of {len(rows)} images leak", soft_wrap=True)
    return figures
