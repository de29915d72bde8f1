"""What a command imports before it does anything: help and scenarios need no PyTorch."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "opacus", "flwr", "pandas", "matplotlib", "scipy", "sklearn"}


def imported(code):
    """Top-level modules that a fresh process imports."""
    report = "import json, sys\nprint(json.dumps(sorted(m for m in sys.modules if '.' not in m)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*arguments):
    return (
        f"import sys\nsys.argv = {['fedlab', *arguments]!r}\n"
        "from fedlab.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass"
    )


def test_help_needs_no_library_but_the_command_lines():
    assert not imported(command("--help")) & (HEAVY | {"numpy", "pydantic"})


@pytest.mark.parametrize(
    "code",
    [
        "from fedlab import Scenario; Scenario.load('quickstart')",
        "from fedlab import Scenario; Scenario.load('cifar10')",
        command("list"),
    ],
    ids=["load", "defenses", "list"],
)
def test_a_scenario_is_read_without_pytorch(code):
    assert not imported(code) & HEAVY
