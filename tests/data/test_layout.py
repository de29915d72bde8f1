"""Which folders are classes, which are splits, and which are neither."""

import pytest

from fedlab import BadInput
from fedlab.data.layout import find_pictures


def put(folder, count=3, name="{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        (folder / name.format(index)).touch()


def two_classes(folder):
    put(folder / "a")
    put(folder / "b")


@pytest.mark.parametrize("extra", [".ipynb_checkpoints", "__MACOSX", "@eaDir", "a/.hidden"])
def test_hidden_folders_are_left_out(tmp_path, extra):
    two_classes(tmp_path)
    put(tmp_path / extra)
    put(tmp_path / "b", 1, "._{}.png")
    layout = find_pictures(tmp_path)
    assert layout.testing is None
    assert {name: len(files) for name, files in layout.training.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    ("training", "testing"),
    [("Train", "Test"), ("training", "testing"), ("TRAIN", "VAL"), ("train", "validation")],
)
def test_splits_have_many_names(tmp_path, training, testing):
    for folder in (training, testing):
        two_classes(tmp_path / folder)
    layout = find_pictures(tmp_path)
    assert list(layout.training) == ["a", "b"]
    assert {file.parent.parent.name for file in layout.testing["a"]} == {testing}


def test_of_test_and_validation_one_is_left_out(tmp_path, caplog):
    for folder in ("train", "test", "val"):
        two_classes(tmp_path / folder)
    assert find_pictures(tmp_path).testing["a"][0].parts[-3] == "test"
    assert "'val' are left out" in caplog.text


def test_a_class_may_be_called_train(tmp_path):
    for name in ("bus", "train"):
        put(tmp_path / name)
    assert list(find_pictures(tmp_path).training) == ["bus", "train"]


def test_other_files_are_counted(tmp_path, caplog):
    two_classes(tmp_path)
    put(tmp_path / "a", 2, "{}.csv")
    assert len(find_pictures(tmp_path).training["a"]) == 3
    assert "2 files" in caplog.text


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (["train/a", "Train/a", "test/a"], "two training folders"),
        (["train/a", "training/a", "test/a"], "two training folders"),
        (["Test/a", "c"], "no folder train beside"),
        (["train/a"], "neither test nor val"),
        (["train", "test"], "needs one folder of pictures per class"),
        (["train/a", "test/b"], "has the classes 'b', but train has 'a'"),
        (["pets/train/a", "pets/test/a"], "name .*pets if it is the whole data set"),
        (["a/train", "a/test", "b/train", "b/test"], "sort the pictures into train/CLASS"),
    ],
)
def test_ambiguous_folders_are_refused(tmp_path, folders, sentence):
    for folder in folders:
        put(tmp_path / folder)
    with pytest.raises(BadInput, match=sentence):
        find_pictures(tmp_path)


def test_a_class_without_pictures_is_named(tmp_path):
    two_classes(tmp_path)
    put(tmp_path / "c", 0)
    with pytest.raises(BadInput, match="c has no picture"):
        find_pictures(tmp_path)


@pytest.mark.parametrize("place", ["data/a/x.png", "data/c"])
def test_links_that_lead_out_are_refused(tmp_path, place):
    two_classes(tmp_path / "data")
    put(tmp_path / "private")
    target = "private/0.png" if place.endswith("png") else "private"
    (tmp_path / place).symlink_to(tmp_path / target)
    with pytest.raises(BadInput, match="leads out of"):
        find_pictures(tmp_path / "data")


def test_links_within_the_folder_do_not_go_in_circles(tmp_path):
    two_classes(tmp_path)
    (tmp_path / "a" / "all").symlink_to(tmp_path)
    (tmp_path / "b" / "same.png").symlink_to(tmp_path / "a" / "0.png")
    assert [len(files) for files in find_pictures(tmp_path).training.values()] == [3, 4]
