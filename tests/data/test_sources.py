"""Every source gives checked uint8 images, and says in a sentence what is wrong with others."""

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import pickle
import struct
import tarfile
import threading
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import datasets

from fedlab import BadInput
from fedlab.data import DATASETS, ImageData, load
from fedlab.data.npz import KEYS


def images(n, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def npz(path: Path, **replaced):
    arrays = {
        "train_images": images(6, 8, 8),
        "train_labels": np.array([0, 1, 2, 0, 1, 2]),
        "test_images": images(3, 8, 8, seed=1),
        "test_labels": np.array([0, 1, 2]),
    } | replaced
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return f"npz:{path}"


def rewrite(path: Path, member: str, content: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        others = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, kept in (others | {member: content}).items():
            archive.writestr(name, kept)


def own_images() -> ImageData:
    x = torch.from_numpy(images(4, 1, 8, 8))
    y = torch.tensor([0, 1, 0, 1])
    return ImageData("own", x, y, x, y, ("a", "b"), (0.5,), (0.5,))


def named_after_root(request):
    return replace(own_images(), name=str(request.root))


def broken():
    return 1 / 0


class TestDigits:
    def test_the_split_is_fixed_and_has_every_class(self):
        data = load("digits")
        assert data.shape == (1, 8, 8)
        assert (len(data.train_labels), len(data.test_labels)) == (1437, 360)
        assert data.train_labels.bincount(minlength=10).min() > 130
        assert data.test_labels.bincount(minlength=10).min() > 30
        assert torch.equal(data.test_images, load("digits").test_images)

    def test_no_test_image_is_a_training_image_by_index(self):
        data = load("digits")
        together = torch.cat([data.train_images, data.test_images]).flatten(1)
        # All 1,797 images of scikit-learn are there once; none of them are equal to another.
        assert len(together.unique(dim=0)) == 1797


class TestImageData:
    def test_normalise_and_back(self):
        data = load("digits")
        pixels = data.pixels(data.test_images[:5])
        assert pixels.min() == 0
        assert pixels.max() == 1
        again = data.denormalise(data.normalise(pixels))
        torch.testing.assert_close(again, pixels)

    def test_limited_is_seeded_and_of_the_size_asked_for(self):
        data = load("digits")
        one, same, other = (data.limited(100, 50, seed) for seed in (1, 1, 2))
        assert (len(one.train_labels), len(one.test_labels)) == (100, 50)
        assert torch.equal(one.train_images, same.train_images)
        assert not torch.equal(one.train_images, other.train_images)
        assert data.limited(None, None, 0).train_images is not None
        with pytest.raises(BadInput, match="has only 1437 images"):
            data.limited(2000, None, 0)

    @pytest.mark.parametrize(
        ("changed", "sentence"),
        [
            ({"train_images": torch.zeros(4, 1, 8, 8)}, "must be uint8"),
            ({"train_images": torch.zeros(4, 2, 8, 8, dtype=torch.uint8)}, "1 or 3"),
            ({"train_labels": torch.tensor([0, 1, 0])}, "as many int64 labels"),
            ({"train_labels": torch.tensor([0, 1, 0, 2])}, "labels go from 0 to 2"),
            ({"test_images": torch.zeros(4, 1, 9, 9, dtype=torch.uint8)}, "test images"),
            ({"std": (0.0,)}, "std above 0"),
        ],
    )
    def test_parts_that_do_not_fit_are_refused(self, changed, sentence):
        good = own_images()
        fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
        with pytest.raises(BadInput, match=sentence):
            ImageData(**(fields | changed))


class TestNpz:
    def test_grey_and_colour_arrays_are_read(self, tmp_path):
        flat = load(npz(tmp_path / "a.npz"))
        assert flat.shape == (1, 8, 8)
        assert flat.classes == ("0", "1", "2")
        raw = images(6, 8, 8, 3)
        colour = load(
            npz(
                tmp_path / "b.npz",
                train_images=raw,
                test_images=images(3, 8, 8, 3),
                train_labels=np.array([[0], [1], [2], [0], [1], [2]]),
                classes=np.array(["x", "y", "z"]),
            )
        )
        assert colour.shape == (3, 8, 8)
        assert colour.classes == ("x", "y", "z")
        assert np.array_equal(colour.train_images[1].permute(1, 2, 0).numpy(), raw[1])

    @pytest.mark.parametrize(
        ("replaced", "sentence"),
        [
            ({"test_labels": None}, "has no array test_labels"),
            ({"train_images": images(6, 8, 8).astype(float)}, "must be uint8"),
            ({"train_labels": np.array([0.5] * 6)}, "must be whole numbers"),
            ({"train_labels": np.array([0, 1])}, "as many int64 labels"),
            ({"test_images": np.array([{"a": 1}], dtype=object)}, "test_images holds objects"),
        ],
    )
    def test_other_contents_are_refused(self, tmp_path, replaced, sentence):
        with pytest.raises(BadInput, match=sentence):
            load(npz(tmp_path / "a.npz", **replaced))

    @pytest.mark.parametrize(
        ("labels", "classes", "names", "numbers"),
        [
            ([1, 2, 3, 1, 2, 3], None, ("1", "2", "3"), [0, 1, 2, 0, 1, 2]),
            ([1, 2, 3, 1, 2, 3], ["x", "y", "z"], ("x", "y", "z"), [0, 1, 2, 0, 1, 2]),
            ([7, -2, 10**9, 7, 7, 7], None, ("-2", "7", "1000000000"), [1, 0, 2, 1, 1, 1]),
            ([0.0, 1.0, 2.0, 0.0, 1.0, 2.0], None, ("0", "1", "2"), [0, 1, 2, 0, 1, 2]),
            ([b"b", b"a", b"b", b"b", b"b", b"b"], None, ("a", "b"), [1, 0, 1, 1, 1, 1]),
            (["b", "a", "b", "b", "b", "b"], [b"b", b"a"], ("b", "a"), [0, 1, 0, 0, 0, 0]),
        ],
        ids=["from-1", "from-1-named", "sparse", "whole-floats", "bytes", "texts-named"],
    )
    def test_labels_are_numbered_from_zero(self, tmp_path, labels, classes, names, numbers):
        labels = np.array(labels)
        named = {} if classes is None else {"classes": np.array(classes)}
        source = npz(tmp_path / "a.npz", train_labels=labels, test_labels=labels[:3], **named)
        data = load(source)
        assert data.classes == names
        assert data.train_labels.tolist() == numbers
        assert data.test_labels.tolist() == numbers[:3]

    @pytest.mark.parametrize(
        ("replaced", "sentence"),
        [
            ({"train_labels": np.array(["a"] * 6)}, "both numbers or both texts"),
            (
                {"train_labels": np.array([0, 1, 2, 0, 1, 9]), "classes": np.array(["a"] * 3)},
                "to 9",
            ),
            ({"train_labels": np.array([2**64 - 1] * 6, np.uint64)}, "whole numbers or texts"),
            ({"train_labels": np.array([np.nan] * 6)}, "whole numbers or texts"),
            ({"train_images": images(6, 3, 8, 8)}, "with 1 or 3 channels"),
            ({"train_images": np.empty((0, 8, 8), np.uint8)}, "none of them 0"),
            ({"train_images": np.uint8(3)}, "must be uint8"),
            ({"classes": np.array("cat")}, "classes must be names"),
            ({"classes": np.array(["a", "b", "\x1b[31mred"])}, "cannot be printed"),
            ({"classes": np.array([b"a", b"b", b"\xff"])}, "no|not UTF-8"),
        ],
    )
    def test_odd_arrays_cost_one_sentence(self, tmp_path, replaced, sentence):
        with pytest.raises(BadInput, match=sentence):
            load(npz(tmp_path / "a.npz", **replaced))

    @pytest.mark.parametrize("shape", [(6, 8, 9), (10**12, 8, 8), (-6, 8, 8), (2**63, 8, 8)])
    def test_a_header_that_lies_is_refused(self, tmp_path, shape):
        npz(tmp_path / "a.npz")
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        rewrite(tmp_path / "a.npz", "train_images.npy", header.getvalue() + bytes(384))
        with pytest.raises(BadInput, match=r"but it has 384 bytes of data|cannot be read"):
            load(f"npz:{tmp_path / 'a.npz'}")

    def test_an_encrypted_array_is_named(self, tmp_path):
        npz(tmp_path / "a.npz")
        content = (tmp_path / "a.npz").read_bytes()
        place = content.index(b"PK\x01\x02") + 8  # the flags of the first entry of the directory
        flags = bytes([content[place] | 1])
        (tmp_path / "a.npz").write_bytes(content[:place] + flags + content[place + 1 :])
        with pytest.raises(BadInput, match="train_images is encrypted"):
            load(f"npz:{tmp_path / 'a.npz'}")

    def test_a_compressed_bomb_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            "fedlab.core.memory.psutil.virtual_memory", lambda: type("", (), {"available": 10**6})
        )
        np.savez_compressed(
            tmp_path / "a.npz",
            **{key: np.zeros(10**6, np.uint8) for key in KEYS},
        )
        with pytest.raises(BadInput, match="not enough memory"):
            load(f"npz:{tmp_path / 'a.npz'}")

    def test_repeated_images_across_splits_are_counted(self, tmp_path, caplog):
        load(npz(tmp_path / "a.npz", test_images=images(6, 8, 8)[:3]))
        assert "3 of 3 test images are training images too" in caplog.text
        caplog.clear()
        load(npz(tmp_path / "a.npz"))
        assert not caplog.text

    @settings(deadline=20_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
        kept=st.floats(0.3, 1),
    )
    def test_damaged_archives_cost_one_sentence(self, tmp_path, damage, kept):
        source = npz(tmp_path / "a.npz")
        content = bytearray((tmp_path / "a.npz").read_bytes())
        for place, value in damage:
            content[int(place * len(content))] = value
        (tmp_path / "a.npz").write_bytes(content[: int(kept * len(content))])
        with contextlib.suppress(BadInput):
            load(source)

    def test_a_file_that_is_no_archive_is_never_unpickled(self, tmp_path):
        path = tmp_path / "a.npz"
        path.write_bytes(pickle.dumps({"train_images": 1}))
        with pytest.raises(BadInput, match=r"cannot be read as \.npz"):
            load(f"npz:{path}")

    def test_a_fifo_is_no_regular_file(self, tmp_path):
        os.mkfifo(tmp_path / "a.npz")
        with pytest.raises(BadInput, match="no regular file"):
            load(f"npz:{tmp_path / 'a.npz'}")

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(BadInput, match="there is no such file"):
            load(f"npz:{tmp_path / 'none.npz'}")


class TestFolder:
    @staticmethod
    def fill(folder: Path, *, mode="L", size=(8, 8), count=5):
        for label, name in enumerate(("cat", "dog")):
            (folder / name).mkdir(parents=True)
            for index in range(count):
                shape = size if mode == "L" else (*size, 3)
                Image.fromarray(images(1, *shape, seed=10 * label + index)[0]).save(
                    folder / name / f"{index}.png"
                )

    def test_a_fifth_of_each_class_is_held_out(self, tmp_path):
        self.fill(tmp_path / "pets")
        data = load(f"folder:{tmp_path / 'pets'}")
        assert data.classes == ("cat", "dog")
        assert data.shape == (1, 8, 8)
        assert data.train_labels.tolist() == [0] * 4 + [1] * 4
        assert data.test_labels.tolist() == [0, 1]

    def test_a_split_folder_keeps_its_pixels(self, tmp_path):
        self.fill(tmp_path / "train", mode="RGB")
        self.fill(tmp_path / "val", mode="RGB", count=2)
        data = load(f"folder:{tmp_path}")
        assert data.shape == (3, 8, 8)
        assert len(data.test_labels) == 4
        assert np.array_equal(
            data.train_images[0].permute(1, 2, 0).numpy(), images(1, 8, 8, 3, seed=0)[0]
        )

    def test_sizes_that_differ_need_an_image_size(self, tmp_path):
        self.fill(tmp_path)
        Image.fromarray(images(1, 12, 20)[0]).save(tmp_path / "cat" / "big.png")
        with pytest.raises(BadInput, match=r"set data\.image_size"):
            load(f"folder:{tmp_path}")
        assert load(f"folder:{tmp_path}", image_size=8).shape == (1, 8, 8)

    def test_a_file_without_a_picture_is_named(self, tmp_path):
        self.fill(tmp_path)
        (tmp_path / "dog" / "0.png").write_bytes(b"no picture")
        with pytest.raises(BadInput, match=r"0\.png is no picture"):
            load(f"folder:{tmp_path}")

    def test_a_missing_or_empty_folder(self, tmp_path):
        with pytest.raises(BadInput, match="no such folder"):
            load(f"folder:{tmp_path / 'none'}")
        with pytest.raises(BadInput, match="one folder of pictures per class"):
            load(f"folder:{tmp_path}")


class TestOwn:
    def test_images_of_a_function(self, tmp_path, monkeypatch):
        (tmp_path / "mine.py").write_text(
            "import torch\nfrom fedlab.data import ImageData\n\n"
            "def make():\n"
            "    x, y = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])\n"
            "    return ImageData('mine', x, y, x, y, ('a', 'b'), (0.5,), (0.5,))\n"
        )
        monkeypatch.chdir(tmp_path)
        assert load("factory", factory="mine:make").name == "mine"

    @pytest.mark.parametrize(
        ("factory", "sentence"),
        [
            ("nonsense", "must be written as package.module:function"),
            ("no.such.module:make", "cannot be imported"),
            ("math:nothing", "module math has no nothing"),
            ("tests.data.test_sources:broken", "cannot be loaded: ZeroDivisionError"),
            ("collections:OrderedDict", "must return a fedlab.data.ImageData"),
        ],
    )
    def test_other_functions_are_refused(self, factory, sentence):
        with pytest.raises(BadInput, match=sentence):
            load("factory", factory=factory)

    def test_a_source_by_import_path(self):
        assert load("tests.data.test_sources:own_images").name == "own"
        by_request = "tests.data.test_sources:named_after_root"
        assert load(by_request, root="/somewhere").name == "/somewhere"
        with pytest.raises(BadInput, match=r"no\.such\.module:make.* cannot be imported"):
            load("no.such.module:make")


def test_an_unknown_source_names_the_nearest():
    with pytest.raises(BadInput, match='did you mean "cifar10"'):
        load("cifar-10")
    with pytest.raises(BadInput, match='must be written as "npz:PATH"'):
        load("npz")
    with pytest.raises(BadInput, match='did you mean "folder"'):
        load("foldr:/some/path")
    with pytest.raises(BadInput, match='must be written as "digits"'):
        load("digits:here")


@pytest.mark.parametrize(
    ("source", "option"),
    [
        ("digits", {"image_size": 8}),
        ("digits", {"download": True}),
        ("folder:x", {"download": True}),
        ("npz:x.npz", {"image_size": 8}),
        ("mnist", {"image_size": 8}),
        ("tests.data.test_sources:own_images", {"image_size": 8}),
    ],
)
def test_options_that_do_not_apply_are_refused(source, option):
    with pytest.raises(BadInput, match=f"data.{next(iter(option))} does not apply"):
        load(source, **option)


def test_a_home_that_does_not_exist_is_one_sentence():
    with pytest.raises(BadInput, match="cannot be loaded"):
        load("mnist", root="~nobody-has-this-name/x")


def test_every_source_has_a_line_for_the_list():
    assert all(DATASETS.get(name).__doc__ for name in DATASETS.builtin)


def idx(array: np.ndarray) -> bytes:
    """An idx file of unsigned bytes, gzipped, as MNIST's are."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes())


def cifar(folder: Path) -> dict[str, str]:
    """A tiny archive in the layout of CIFAR-10; returns MD5 sums by file."""
    sums, inner = {}, "cifar-10-batches-py"
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
            content: dict[str, object] = {
                "data": images(2, 3072, seed=len(name)),
                "labels": [0, 1],
                "label_names": ["cat", "dog"],
            }
            raw = pickle.dumps(content)
            sums[name] = hashlib.md5(raw).hexdigest()
            info = tarfile.TarInfo(f"{inner}/{name}")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    whole = (folder / "cifar-10-python.tar.gz").read_bytes()
    return sums | {"archive": hashlib.md5(whole).hexdigest()}


@pytest.fixture
def server(tmp_path):
    """A file server on this machine, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder))
    ) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}", folder
        serving.shutdown()
        thread.join()


class TestDownloads:
    """torchvision's own code fetches, checks and unpacks; only the address is ours."""

    @pytest.fixture(autouse=True)
    def _small_sets(self, server, monkeypatch):
        url, folder = server
        resources = []
        for stem, array in {
            "train-images-idx3-ubyte": images(6, 28, 28),
            "train-labels-idx1-ubyte": np.array([0, 1, 2, 3, 4, 5], dtype=np.uint8),
            "t10k-images-idx3-ubyte": images(2, 28, 28, seed=1),
            "t10k-labels-idx1-ubyte": np.array([8, 9], dtype=np.uint8),
        }.items():
            content = idx(array)
            (folder / f"{stem}.gz").write_bytes(content)
            resources.append((f"{stem}.gz", hashlib.md5(content).hexdigest()))
        for kind in (datasets.MNIST, datasets.FashionMNIST):
            monkeypatch.setattr(kind, "mirrors", [f"{url}/"])
            monkeypatch.setattr(kind, "resources", resources)
        sums = cifar(folder)
        monkeypatch.setattr(datasets.CIFAR10, "url", f"{url}/cifar-10-python.tar.gz")
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", sums["archive"])
        training = [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)]
        monkeypatch.setattr(datasets.CIFAR10, "train_list", training)
        monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
        meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
        monkeypatch.setattr(datasets.CIFAR10, "meta", meta)

    @pytest.mark.parametrize(
        ("name", "shape", "counts"),
        [
            ("mnist", (1, 28, 28), (6, 2)),
            ("fashion-mnist", (1, 28, 28), (6, 2)),
            ("cifar10", (3, 32, 32), (10, 2)),
        ],
    )
    def test_a_set_is_downloaded_only_once(
        self, tmp_path, server, capfd, caplog, name, shape, counts
    ):
        root = tmp_path / "root"
        with pytest.raises(BadInput, match=r"data\.download=true"):
            load(name, root=root)
        with caplog.at_level("INFO", logger="fedlab"):
            data = load(name, root=root, download=True)
        assert str(root) in caplog.text  # says where it goes
        assert "100" in capfd.readouterr().err  # and shows how far it is
        assert data.shape == shape
        assert (len(data.train_labels), len(data.test_labels)) == counts
        for file in server[1].iterdir():
            file.unlink()
        assert torch.equal(load(name, root=root).train_images, data.train_images)

    def test_a_download_that_fails_is_one_sentence(self, tmp_path, server):
        for file in server[1].iterdir():
            file.write_bytes(b"damaged")
        with pytest.raises(BadInput, match="mnist cannot be downloaded to"):
            load("mnist", root=tmp_path / "root", download=True)
        with pytest.raises(BadInput, match="cifar10 cannot be downloaded to"):
            load("cifar10", root=tmp_path / "root", download=True)
