"""A network that predicts no better than a constant is named, with the interval of its accuracy."""

import dataclasses

import pytest
import torch
from rich.console import Console

from fedlab.evaluation.model import ModelScore
from fedlab.report.page.run_page import run_page
from fedlab.report.tables.terminal import report
from fedlab.report.verdicts.learning import learning_verdicts
from fedlab.results.rows import RoundRow
from tests.federations import finished, small


def rounds(*accuracies, images=400, chance=0.1):
    return [
        RoundRow(n, each, 1.0, None, 1.0, chance_accuracy=chance, test_images=images)
        for n, each in enumerate(accuracies)
    ]


def test_a_constant_network_learned_nothing():
    (found,) = learning_verdicts(rounds(0.1, 0.1))
    assert (found.threat, found.word) == ("Training", "learned nothing")
    assert (
        "After round 1 the accuracy on 400 test images is 0.100, with a 95 % interval of 0.072 to "
        "0.134, which is not shown to be above the 0.100 of always" in found.sentence
    )
    assert "leakage is of an untrained network" in found.sentence


@pytest.mark.parametrize(("images", "count"), [(40, 1), (400, 0)])
def test_few_test_images_show_no_learning(images, count):
    assert len(learning_verdicts(rounds(0.1, 0.175, images=images))) == count


def test_the_most_frequent_class_counts():
    assert learning_verdicts(rounds(0.5, 0.75, chance=0.74))
    assert not learning_verdicts(rounds(0.5, 0.75, chance=0.5))
    confusion = torch.tensor([[0, 6], [3, 1]])
    assert ModelScore(1.0, confusion).chance_accuracy == 0.6


def test_a_network_that_forgot_is_not_untrained():
    (found,) = learning_verdicts(rounds(0.1, 0.9, 0.1))
    assert "lost what it had learned by round 1, when its accuracy was 0.900" in found.sentence
    assert "untrained" not in found.sentence


def test_a_resumed_run_of_an_earlier_version_counts():
    first, *rest = rounds(0.1, 0.1)
    old = dataclasses.replace(first, chance_accuracy=float("nan"), test_images=None)
    (found,) = learning_verdicts([old, *rest])
    assert found.word == "learned nothing"


def test_nothing_is_said_without_test_images_or_rounds():
    old = dataclasses.replace(rounds(0.1, 0.1)[1], test_images=None)
    for rows in ([], rounds(0.1), [*rounds(0.1), old], rounds(0.1, float("nan"), images=0)):
        assert not learning_verdicts(rows)


def test_the_page_and_the_terminal_say_so(tmp_path):
    scenario = small(rounds=1, training={"lr": 1e-9})
    folder = finished(scenario, out=tmp_path / "run").folder
    assert run_page(folder).verdicts[0].word == "learned nothing"
    console = Console(record=True, width=110)
    report(folder.path, console)
    assert "learned nothing: After round 1 the accuracy on" in console.export_text()
