"""Finished parts of a benchmark are read again, but not those of other code."""

from pydantic import TypeAdapter

from benchmarks.kept import Kept, stamp
from benchmarks.strongest import Outcome

KIND = TypeAdapter(dict[str, Outcome])


def test_kept_parts_count_only_for_the_same_code(tmp_path):
    file, part = tmp_path / "cells.jsonl", {"auto": Outcome("leaks", 21.0)}
    Kept(file, "old", KIND).add("a", part)
    assert Kept(file, "old", KIND).results == {"a": part}
    assert Kept(file, "new", KIND).results == {}


def test_stamp_changes_with_the_files(tmp_path):
    file = tmp_path / "images.npz"
    file.write_bytes(b"old")
    before = stamp(file)
    file.write_bytes(b"new")
    assert stamp(file) != before
