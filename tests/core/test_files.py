"""Names of folders stay inside their folder on every operating system."""

import hashlib
from pathlib import PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlab.core.files import GrowingDigest, folder_name
from fedlab.results.folder import next_free

ODD = ["../../escaped", "/etc", "..", ".", "", "a/b", "a\\b", "C:x", "con", "NUL.txt", "x" * 500]


@given(st.sampled_from(ODD) | st.text())
def test_any_title_becomes_one_folder(title):
    name = folder_name(title)
    for path in (PureWindowsPath("runs") / name,):
        assert path.parent == PureWindowsPath("runs")
        assert path.name == name
        assert not path.is_reserved()
    assert 0 < len(name.encode()) <= 101
    assert name.isprintable()
    assert not name.startswith(".")
    assert not name.endswith((".", " "))


@pytest.mark.parametrize("title", ["quickstart", "trial 1", "größe", "a-b_c.d"])
def test_ordinary_titles_stay_as_they_are(title):
    assert folder_name(title) == title


@pytest.mark.parametrize("title", ODD)
def test_a_free_folder_is_made_inside(tmp_path, title):
    for _ in range(2):
        free = next_free(tmp_path, title)
        free.mkdir()
        assert free.parent == tmp_path
    assert len(list(tmp_path.iterdir())) == 2


def test_the_hash_of_a_growing_file_is_that_of_the_whole(tmp_path):
    file, growing = tmp_path / "table.csv", GrowingDigest()

    def whole():
        return hashlib.sha256(file.read_bytes()).hexdigest()

    assert growing.of(file) == hashlib.sha256().hexdigest()
    for more in (b"one", b"", b"two and more"):
        with file.open("ab") as content:
            content.write(more)
        assert growing.of(file) == whole()
    file.write_bytes(b"cut")
    assert growing.of(file) == whole()
