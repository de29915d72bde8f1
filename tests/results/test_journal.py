"""The journal of privacy costs: a cut, emptied or edited one is noticed and never counts less."""

import shutil

import pytest

from fedlab import BadInput, Federation
from fedlab.core.errors import RunFailed
from fedlab.results.folder import RunFolder
from tests.commands import call
from tests.federations import small

DP = {"name": "dp-sgd", "noise_multiplier": 1.0, "clipping_norm": 1.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose three rounds spent the same."""
    path = tmp_path_factory.mktemp("runs") / "run"
    model = {"name": "mlp", "width": 4}
    federation = Federation(small(rounds=3, model=model, defenses=[DP]), out=path)
    federation.run()
    return path


@pytest.fixture
def folder(run, tmp_path):
    return RunFolder.open(shutil.copytree(run, tmp_path / "run"))


def lines(folder):
    return folder.journal.path.read_bytes().splitlines(keepends=True)


def deleted(folder):
    folder.journal.path.unlink()


def emptied(folder):
    folder.journal.path.write_bytes(b"")


def half(folder):
    content = folder.journal.path.read_bytes()
    folder.journal.path.write_bytes(content[: len(content) // 2])


def first_line_lost(folder):
    folder.journal.path.write_bytes(b"".join(lines(folder)[1:]))


def last_line_lost(folder):
    folder.journal.path.write_bytes(b"".join(lines(folder)[:-1]))


def lines_swapped(folder):
    first, second, third = lines(folder)
    folder.journal.path.write_bytes(second + first + third)


def more_noise(folder):
    text = folder.journal.path.read_text()
    folder.journal.path.write_text(text.replace('"noise_multiplier":1.0', '"noise_multiplier":9.0'))


def chain_stripped(folder):
    plain = [line.split(b'"spent":')[1].split(b',"chain"')[0] + b"\n" for line in lines(folder)]
    folder.journal.path.write_bytes(b"".join(plain[:-1]))
    folder.journal.path.with_suffix(".head").unlink()


def head_lost(folder):
    folder.journal.path.with_suffix(".head").unlink()


def both_emptied(folder):
    emptied(folder)
    head_lost(folder)


def both_deleted(folder):
    deleted(folder)
    head_lost(folder)


@pytest.mark.parametrize(
    "damage",
    [
        *(deleted, emptied, half, first_line_lost, last_line_lost, lines_swapped, more_noise),
        *(chain_stripped, head_lost, both_emptied, both_deleted),
    ],
    ids=lambda damage: damage.__name__,
)
def test_damage_is_told_with_the_worst_epsilon(folder, damage):
    worst = folder.ledger().total(0)
    damage(folder)
    fresh = RunFolder.open(folder.path)
    with pytest.raises(BadInput, match=f"is epsilon {worst:.3f} of client 0"):
        fresh.ledger()
    with pytest.raises(BadInput):
        Federation.resume(folder.path)


def test_commands_end_with_an_exit_code(folder):
    emptied(folder)
    code, out, err = call(["ledger", str(folder.path)])
    assert (code, out) == (2, "")
    assert "0 of 3 entries are left" in " ".join(err.split())
    code, _, err = call(["report", str(folder.path)])
    assert code == 1
    assert "0 of 3 entries are left" in " ".join(err.split())
    page = (folder.path / "report.html").read_text()
    assert "Privacy spent: <strong>unknown" in page


def test_line_that_a_kill_cut_off_is_no_damage(folder):
    before = folder.ledger().total(0)
    with folder.journal.path.open("ab") as file:
        file.write(b'{"entry":4,"spent":{"0":[{"ro')
    assert RunFolder.open(folder.path).ledger().total(0) == before


def test_edited_ledger_file_changes_no_epsilon(folder):
    before = folder.ledger().total(0)
    table = folder.path / "ledger.csv"
    table.write_text(table.read_text().replace(f"{before}", "0.5"))
    assert RunFolder.open(folder.path).ledger().total(0) == before


def test_something_else_that_wrote_is_noticed(tmp_path):
    one = Federation(small(model={"name": "mlp", "width": 4}, defenses=[DP]), out=tmp_path / "run")
    one.step()
    other = Federation.resume(tmp_path / "run")
    other.step()
    with pytest.raises(RunFailed, match="something else has written"):
        one.step()
    spent = other.folder.spending()[0]
    assert [entry.round for entry in spent] == [1, 2]
