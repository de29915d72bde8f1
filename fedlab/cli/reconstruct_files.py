"""The command ``fedlab reconstruct-files``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlab.cli import options
from fedlab.cli import update_options as about
from fedlab.core.consoles import console
from fedlab.core.errors import BadInput

if TYPE_CHECKING:
    from fedlab.integrations.audit import Audit
    from fedlab.integrations.image_files import Truth


def reconstruct_files(
    folder: about.Captures = None,
    round: about.Round = None,
    client: about.Client = None,
    before: about.Before = None,
    reply: about.Reply = None,
    model: about.Model = None,
    model_set: about.ModelSettings = None,
    kind: about.Kind = "weights",
    shape: about.Shape = None,
    classes: about.Classes = None,
    num_images: about.NumImages = None,
    labels: about.Labels = "inferred",
    local_lr: about.LocalRate = None,
    optimiser: about.LocalOptimiser = "sgd",
    local_momentum: about.LocalMomentum = 0.0,
    local_weight_decay: about.LocalDecay = 0.0,
    local_epochs: about.LocalEpochs = 1,
    local_batch: about.LocalBatch = None,
    mode: about.Mode = None,
    mean: about.Mean = None,
    std: about.Std = None,
    public: about.Public = None,
    truth: about.Truth = None,
    power: about.Power = True,
    device: about.Device = "auto",
    presets: options.ListPresets = False,
    preset: options.Preset = None,
    iterations: options.Iterations = None,
    tv: options.TotalVariation = None,
    lr: options.StepSize = None,
    restarts: options.Restarts = None,
    workers: options.Workers = None,
    seconds: options.Seconds = None,
    tuning_seconds: options.TuningSeconds = None,
    preview: options.Preview = None,
    page: about.Page = None,
    out: options.PictureOut = None,
) -> None:
    """Reconstruct images from an update of any federation: two files, or a capture of observe.

    Images are scored where --truth gives the true ones, and graded where --public gives images
    to compare with.
    """
    if presets:
        from fedlab.cli.list import presets_table

        console.print(presets_table())
        return
    if folder is None and (before is None or reply is None or model is None):
        raise BadInput("name the files and the network: --global, --reply and --model")
    if folder is not None and (before or reply):
        raise BadInput(
            f"name the folder of captures, or files with --global and --reply, not both: {folder}"
        )
    if folder is not None and (round is None or client is None or model is None):
        raise BadInput("name the capture and the network: --round, --client and --model")
    if folder is None and not (round is None and client is None):
        raise BadInput("--round and --client name a capture: name the folder of captures as well")
    if folder is not None and kind != "weights":
        raise BadInput("the folder says what replies contain: leave --kind out")
    if shape is None or classes is None:
        raise BadInput("name the shape of the images and the number of classes: --shape, --classes")
    pixels, given = about.shape_of(shape), about.classes_of(labels)
    true = None if truth is None else _true_images(truth)
    if folder is None and num_images is None and given is None and true is not None:
        num_images = len(true[0])
    facts: dict[str, Any] = {
        "model": model,
        "shape": pixels,
        "classes": classes,
        "num_images": num_images,
        "labels": given,
        "mean": about.numbers_of(mean, "mean"),
        "std": about.numbers_of(std, "std"),
        "public": public,
        "model_options": about.model_settings(model_set),
        "truth": true,
        "device": device,
        "preset": preset,
        "iterations": iterations,
        "tv": tv,
        "lr": lr,
        "restarts": restarts,
        "seconds": seconds,
        "tuning_seconds": tuning_seconds,
        "workers": workers,
        "power": power,
    }
    if local_lr is not None:
        facts["local"] = about.local_training(
            num_images or len(given or ()) or _noted(folder, round, client),
            local_batch,
            lr=local_lr,
            optimiser=optimiser,
            momentum=local_momentum,
            weight_decay=local_weight_decay,
            epochs=local_epochs,
        )
    if folder is None:
        facts |= {"before": before, "after": reply, "kind": kind, "training_mode": mode != "eval"}
        _attack(_files, facts, preview=preview, page=page, out=out or Path("rebuilt.png"))
    else:
        facts |= {"folder": folder, "round": round, "client": client, "mode": mode}
        _attack(_capture, facts, preview=preview, page=page, out=out or _picture(folder, facts))


def _files(**facts: Any) -> Audit:
    from fedlab.integrations import update_audit

    return update_audit.audit_update(**facts)


def _capture(**facts: Any) -> Audit:
    from fedlab.integrations.capture_folder import audit_capture

    return audit_capture(**facts)


def _picture(folder: Path, facts: dict[str, Any]) -> Path:
    from fedlab.integrations.capture_folder import CaptureFolder, Kept

    return CaptureFolder(folder).picture_file(Kept(facts["round"], facts["client"]))


def _noted(folder: Path | None, round: int | None, client: int | None) -> int:
    """Number of images that the client reported; 1 of files, which the attack itself refuses."""
    if folder is None or round is None or client is None:
        return 1
    from fedlab.server.captures import Capture

    return Capture.load(folder, round=round, client=client).payload.num_examples


def _attack(
    audit: Callable[..., Audit],
    facts: dict[str, Any],
    *,
    preview: Path | None,
    page: Path | None,
    out: Path,
) -> None:
    """Attack an update, draw the images, and print how well they match."""
    from fedlab.cli.pictures import prepare_picture, preview_writer
    from fedlab.core.devices import device_of
    from fedlab.metrics.verdict import UNSCORED
    from fedlab.report.figures.reconstructions import save
    from fedlab.report.page.output import check_page
    from fedlab.report.tables.terminal import leak_table
    from fedlab.report.verdicts.audit import audit_verdicts
    from fedlab.report.verdicts.counts import simulated_power_sentence

    if page is not None:
        check_page(page)
    target = prepare_picture(out)
    facts |= {"device": str(device_of(facts["device"])), "watch": preview_writer(preview)}
    found = audit(**facts)
    row, count = found.leak.rows[0], len(found.leak.rebuilt)
    save(found.plot(), target)
    if found.verdict == UNSCORED:
        cost = found.leak.reconstruction.cost if found.leak.reconstruction else float("nan")
        console.print(
            f"{count} images rebuilt in {row.seconds:.1f} s, matching cost {cost:.2g}; unscored, "
            "since there is no truth here",
            soft_wrap=True,
        )
        if facts["power"]:
            console.print(simulated_power_sentence(row.power), soft_wrap=True)
    else:
        console.print(leak_table(found.leak))
        for verdict in audit_verdicts([found]):
            console.print(f"{verdict.threat}: {verdict.word}. {verdict.sentence}", soft_wrap=True)
    console.print(f"picture: {target}", soft_wrap=True)
    if page is not None:
        console.print(f"page: {found.report(page)}", soft_wrap=True)


def _true_images(path: Path) -> Truth | None:
    from fedlab.integrations.image_files import true_images

    return true_images(path)
