"""Python, scenarios and the command line have the same defaults for an attack."""

import inspect
from dataclasses import MISSING, fields

import pytest

from attacks.knowledge import LocalSGD
from fedlab.cli.reconstruct import reconstruct
from fedlab.cli.reconstruct_files import reconstruct_files
from fedlab.integrations.recorded_attack import reconstruct_capture
from fedlab.integrations.update_files import Update, reconstruct_update
from fedlab.scenario.tables import Reconstruct

NEEDED = None
"""Default of an option of the command line that is needed, or that the preset sets."""


def of_function(function):
    """Defaults by argument; ``None`` where there is none."""
    empty = inspect.Parameter.empty
    parameters = inspect.signature(function).parameters.values()
    return {
        each.name: NEEDED if each.default is empty else each.default
        for each in parameters
        if each.kind is not each.VAR_KEYWORD
    }


def of_dataclass(kind):
    return {each.name: NEEDED if each.default is MISSING else each.default for each in fields(kind)}


def of_scenario():
    return {name: field.default for name, field in Reconstruct.model_fields.items()}


RENAMED = {
    "local_lr": "lr",
    "optimiser": "optimiser",
    "local_momentum": "momentum",
    "local_weight_decay": "weight_decay",
    "local_epochs": "epochs",
}


@pytest.mark.parametrize("command", [reconstruct, reconstruct_files])
def test_options_of_an_attack_are_those_of_a_scenario(command):
    options, table = of_function(command), of_scenario()
    # Of files the labels are those of Update, and the mode has no announced value.
    own = {"labels", "mode"} if command is reconstruct_files else set()
    shared = (options.keys() & table.keys()) - own - {"rounds", "clients"}
    assert {"preset", "iterations", "tv", "lr", "restarts", "workers", "seconds"} <= shared
    for name in shared:
        # None leaves the default to the scenario's table.
        assert options[name] in (None, table[name]), name


def test_options_of_files_are_those_of_update():
    options, table = of_function(reconstruct_files), of_dataclass(Update)
    for name in ("before", "reply", "model", "kind", "shape", "classes", "num_images"):
        assert options[name] == table[name], name
    for name in ("mean", "std"):
        assert options[name] == table[name] is None
    assert options["labels"] == "inferred"
    assert table["labels"] is None
    assert options["mode"] is None  # that of a capture is what observe was told
    assert table["training_mode"]


def test_options_of_training_are_those_of_local_sgd():
    options, table = of_function(reconstruct_files), of_dataclass(LocalSGD)
    for option, name in RENAMED.items():
        assert options[option] == table[name], option
    # With one image any size of a batch is the same, and with more it is asked for.
    assert options["local_batch"] is None


def test_captures_and_files_have_the_same_defaults():
    capture, files = of_function(reconstruct_capture), of_function(reconstruct_update)
    for name in ("seed", "device", "watch"):
        assert capture[name] == files[name], name
    update = of_dataclass(Update)
    for name in ("shape", "classes", "num_images", "labels", "local", "mean", "std"):
        assert capture[name] == update[name], name
    assert of_function(reconstruct_files)["device"] == capture["device"]
