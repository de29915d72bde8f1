"""Data sets in the layouts of the Hugging Face Hub, and partitioners of Flower Datasets."""

import io
import socket

import numpy as np
import pytest
import torch
from PIL import Image

from fedlab import BadInput, Federation
from fedlab.data import load
from fedlab.data.partitions import partition
from tests.federations import small

datasets = pytest.importorskip("datasets")
partitioners = pytest.importorskip("flwr_datasets.partitioner")

WARDS = ["east", "west", "north"]


def picture(label):
    pixels = np.full((6, 6, 3), 20 * label, np.uint8)
    pixels[0, 0] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def table(count, **columns):
    labels = [place % 4 for place in range(count)]
    columns = {"image": list(map(picture, labels)), "label": labels} | columns
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list("abcd"))}
    features |= {name: datasets.Value("string") for name in columns if name not in features}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The cache of Hugging Face, in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("cache")
        patch.setattr("datasets.config.HF_DATASETS_CACHE", str(place))
        yield place


@pytest.fixture(scope="module")
def folder(tmp_path_factory, cache):
    """A data set of 60 training images from three wards and 12 test images, as parquet files."""
    place = tmp_path_factory.mktemp("hub") / "wards"
    place.mkdir()
    table(60, ward=[WARDS[n % 3] for n in range(60)]).to_parquet(place / "train.parquet")
    table(12, ward=["east"] * 12).to_parquet(place / "test.parquet")
    return place


def test_images_labels_and_places_are_read(folder):
    data = load(f"hf:{folder}", group_by="ward")
    assert (data.name, data.classes, data.shape) == ("wards", ("a", "b", "c", "d"), (3, 6, 6))
    assert data.train_labels.tolist() == [n % 4 for n in range(60)]
    assert data.train_images[:, 0, 3, 3].tolist() == [20 * (n % 4) for n in range(60)]
    assert len(data.test_labels) == 12
    order = sorted(WARDS)
    assert data.train_groups.tolist() == [order.index(WARDS[n % 3]) for n in range(60)]
    assert load(f"hf:{folder}", image_size=4).shape == (3, 4, 4)


def test_labels_may_be_any_column(folder):
    data = load(f"hf:{folder}", label_by="ward")
    assert data.classes == ("east", "north", "west")
    assert data.test_labels.tolist() == [0] * 12


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"group_by": "hospital"}, 'no column "hospital", but image, label, ward'),
        ({"label_by": "image2"}, 'no column "image2"'),
    ],
)
def test_missing_columns_are_named(folder, options, sentence):
    with pytest.raises(BadInput, match=sentence):
        load(f"hf:{folder}", **options)


def test_without_a_test_split_a_fifth_is_held_out(tmp_path, cache):
    (tmp_path / "alone").mkdir()
    table(40).to_parquet(tmp_path / "alone" / "train.parquet")
    data = load(f"hf:{tmp_path / 'alone'}")
    assert (len(data.train_labels), len(data.test_labels)) == (32, 8)


def test_two_pictures_a_row_are_refused(tmp_path, cache):
    (tmp_path / "two").mkdir()
    two = (
        table(8)
        .add_column("mask", list(map(picture, range(8))))
        .cast_column("mask", datasets.Image())
    )
    two.to_parquet(tmp_path / "two" / "train.parquet")
    with pytest.raises(BadInput, match="one column of pictures, and has 2"):
        load(f"hf:{tmp_path / 'two'}")


def test_nothing_is_asked_of_the_network(monkeypatch, cache):
    asked = []
    for place, name in ((socket.socket, "connect"), (socket, "getaddrinfo")):
        monkeypatch.setattr(place, name, lambda *where, **_: asked.append(where))
    with pytest.raises(BadInput, match=r"data\.download = true fetches it"):
        load("hf:nobody/nothing")
    assert not asked


def test_a_card_that_names_files_elsewhere_is_refused(tmp_path, cache):
    (tmp_path / "lure").mkdir()
    card = "---\nconfigs:\n- config_name: a\n  data_files: http://127.0.0.1:9/train.parquet\n---\n"
    (tmp_path / "lure" / "README.md").write_text(card)
    with pytest.raises(BadInput, match="names files elsewhere"):
        load(f"hf:{tmp_path / 'lure'}")


def test_pictures_outside_of_the_data_set_are_refused(tmp_path, cache):
    (tmp_path / "private.png").write_bytes(picture(1)["bytes"])
    (tmp_path / "set").mkdir()
    rows = {"image": [{"bytes": None, "path": str(tmp_path / "private.png")}] * 8}
    rows |= {"label": [0, 1] * 4}
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    made = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    made.to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(BadInput, match=r"outside of the data set|cannot be loaded"):
        load(f"hf:{tmp_path / 'set'}")


def test_whole_numbers_keep_their_order_as_labels(tmp_path, cache):
    (tmp_path / "numbers").mkdir()
    rows = {"image": list(map(picture, range(12))), "digit": list(range(12))}
    features = {"image": datasets.Image(), "digit": datasets.Value("int64")}
    made = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    for split in ("train", "test"):
        made.to_parquet(tmp_path / "numbers" / f"{split}.parquet")
    data = load(f"hf:{tmp_path / 'numbers'}", label_by="digit")
    assert data.classes == tuple(map(str, range(12)))
    assert data.train_labels.tolist() == list(range(12))
    rows["digit"][3] = None
    made = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    made.to_parquet(tmp_path / "numbers" / "train.parquet")
    with pytest.raises(BadInput, match='rows without a value in "digit"'):
        load(f"hf:{tmp_path / 'numbers'}", label_by="digit")


def test_a_federation_of_wards_trains(folder):
    data = {"source": f"hf:{folder}", "group_by": "ward", "partition": "natural", "clients": 3}
    federation = Federation(small(rounds=1, data=data))
    groups = federation.federated.data.train_groups
    of_clients = [set(groups[part].tolist()) for part in federation.federated.partitions]
    assert sorted(map(sorted, of_clients)) == [[0], [1], [2]]
    federation.run()
    with pytest.raises(BadInput, match="4, but the images come from 3 places only"):
        Federation(small(rounds=1, data=data | {"clients": 4}))


def spread(name, clients=4, groups=None, **options):
    labels = torch.arange(60) % 4
    scheme = f"flwr_datasets.partitioner:{name}"
    generator = torch.Generator().manual_seed(0)
    return partition(
        labels, clients=clients, scheme=scheme, groups=groups, options=options, generator=generator
    )


def test_partitioners_of_flower_spread_as_in_an_app():
    parts = spread("DirichletPartitioner", partition_by="label", alpha=0.5, min_partition_size=1)
    theirs = partitioners.DirichletPartitioner(4, "label", 0.5, min_partition_size=1)
    rows = {"label": [n % 4 for n in range(60)], "row": list(range(60))}
    theirs.dataset = datasets.Dataset.from_dict(rows)
    for client, part in enumerate(parts):
        assert part.tolist() == sorted(theirs.load_partition(client)["row"])


def test_natural_ids_of_flower_are_the_groups():
    groups = torch.arange(60) % 3
    parts = spread("NaturalIdPartitioner", clients=3, groups=groups, partition_by="group")
    assert all(len(set(groups[part].tolist())) == 1 for part in parts)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("DirichletPartitioner", {}, "partition_options of DirichletPartitioner: .*partition_by"),
        ("IidPartitioner", {"num_partitions": 3}, "makes 3 parts, but data.clients is 4"),
    ],
)
def test_partitioners_that_cannot_work_are_named(name, options, sentence):
    with pytest.raises(BadInput, match=sentence):
        spread(name, **options)


def test_options_of_other_partitions_are_refused():
    generator = torch.Generator()
    with pytest.raises(BadInput, match='do not apply to the partition "iid"'):
        partition(
            torch.arange(9) % 3, clients=2, scheme="iid", options={"a": 1}, generator=generator
        )
    with pytest.raises(BadInput, match="Shard is no partitioner"):
        partition(
            torch.arange(9) % 3, clients=2, scheme="fedlab.data.shard:Shard", generator=generator
        )
