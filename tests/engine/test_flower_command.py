"""A run that ended early costs one sentence, whatever Flower printed."""

from pathlib import Path

import pytest

from fedlab import RunFailed, Scenario
from fedlab.engine.deployment import no_answer
from fedlab.engine.flower_command import judge_run

FRAMED = [
    "Using SuperLink: fedlab (127.0.0.1:8001)",
    "╭─ Error ─────────╮",
    "│ Connection to the SuperLink is unavailable. Please check your network │",
    "╰─────────────────╯",
]


@pytest.mark.parametrize(
    ("certificate", "doubt"), [(Path("ca.crt"), "not by ca.crt"), (None, "it speaks TLS")]
)
def test_a_silent_superlink_is_named(tmp_path, certificate, doubt):
    reason = no_answer(FRAMED, "127.0.0.1:8001", certificate)
    with pytest.raises(RunFailed, match=f"no SuperLink answers at 127.0.0.1:8001: .*{doubt}$"):
        judge_run(Scenario(), tmp_path, FRAMED, reason)


def test_the_frame_of_an_error_is_left_out(tmp_path):
    framed = [FRAMED[1], "│ Something else │", FRAMED[3]]
    assert no_answer(framed, "127.0.0.1:8001", None) is None
    with pytest.raises(RunFailed, match=r"of \d+: Error / Something else$"):
        judge_run(Scenario(), tmp_path, framed)
