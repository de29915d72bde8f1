"""Pictures are understood before they are converted, and hostile files cost one sentence."""

import contextlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fedlab import BadInput
from fedlab.core import memory
from fedlab.data.pictures import is_picture, read_pictures

RAMP = np.linspace(0, 65535, 64).reshape(8, 8)
GREY = (RAMP / 257).round().astype(np.uint8)
COLOURS = np.stack([GREY, GREY.T, 255 - GREY], axis=-1)


def read(tmp_path, picture, name="x.png", *, size=None, **options):
    file = tmp_path / name
    picture.save(file, **options)
    return read_pictures([file], size=size)[0].numpy()


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("x.png", Image.fromarray(RAMP.astype(np.uint16))),
        ("x.tif", Image.fromarray(RAMP.astype(np.uint16))),
        ("x.tif", Image.frombytes("I;16B", (8, 8), RAMP.astype(">u2").tobytes())),
        ("x.tif", Image.fromarray(RAMP.astype(np.int32))),
        ("x.tif", Image.fromarray((RAMP / 65535).astype(np.float32))),
        ("x.pgm", Image.fromarray(RAMP.astype(np.uint16))),
        ("x.png", Image.fromarray((RAMP / 16).astype(np.uint16))),
        ("x.tif", Image.fromarray((RAMP / 4).astype(np.int32))),
    ],
    ids=["png16", "tif16", "tif16be", "tif32", "float", "pgm16", "12-bits", "14-bits"],
)
def test_deep_pixels_are_scaled_to_eight_bits(tmp_path, name, picture):
    pixels = read(tmp_path, picture, name)
    assert pixels.shape == (1, 8, 8)
    assert np.abs(pixels[0].astype(int) - GREY).max() <= 1


def test_one_factor_scales_all_deep_pictures(tmp_path):
    files = [tmp_path / "dark.png", tmp_path / "bright.png"]
    for file, divisor in zip(files, (16, 1), strict=True):
        Image.fromarray((RAMP / divisor).astype(np.uint16)).save(file)
    dark, bright = read_pictures(files, size=None)
    assert (int(dark.max()), int(bright.max())) == (16, 255)


@pytest.mark.parametrize(
    ("name", "picture", "sentence", "options"),
    [
        ("x.tif", Image.fromarray(RAMP.astype(np.float32)), "must be in", {}),
        ("x.tif", Image.fromarray(np.full((8, 8), np.nan, np.float32)), "must be in", {}),
        ("x.tif", Image.fromarray(RAMP.astype(np.int32) - 9), "negative pixels", {}),
        ("x.tif", Image.fromarray(RAMP.astype(np.uint16)), "white as 0", {"tiffinfo": {262: 0}}),
    ],
    ids=["float-above-1", "nan", "negative", "white-is-zero"],
)
def test_deep_pixels_without_a_known_range(tmp_path, name, picture, sentence, options):
    with pytest.raises(BadInput, match=sentence):
        read(tmp_path, picture, name, **options)


def test_a_grey_palette_is_grey_and_colours_stay(tmp_path):
    grey = Image.fromarray(GREY)
    assert np.array_equal(read(tmp_path, grey.convert("P")), GREY[None])
    few = Image.fromarray(COLOURS).quantize(16)
    assert np.array_equal(read(tmp_path, few), np.array(few.convert("RGB")).transpose(2, 0, 1))
    both = [tmp_path / "grey.png", tmp_path / "colours.png"]
    grey.save(both[0])
    Image.fromarray(COLOURS).save(both[1])
    together = read_pictures(both, size=None)
    assert together.shape == (2, 3, 8, 8)
    assert torch.equal(together[0], torch.from_numpy(GREY).expand(3, -1, -1))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparent_pixels_are_white(tmp_path, mode):
    drawing = Image.new("RGBA", (8, 8), (0, 0, 0, 0))  # black on nothing
    drawing.paste((0, 0, 0, 255), (2, 2, 6, 6))
    pixels = read(tmp_path, drawing.convert(mode))
    assert pixels.shape[0] == (3 if mode == "RGBA" else 1)
    assert (pixels[:, 0, 0] == 255).all()
    assert (pixels[:, 4, 4] == 0).all()


def test_exif_turns_are_undone(tmp_path):
    turned = Image.fromarray(GREY[:4])
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    pixels = read(tmp_path, turned, exif=exif)
    assert np.array_equal(pixels[0], np.rot90(GREY[:4], -1))


def test_cmyk_is_read_as_the_colours_it_prints(tmp_path):
    pixels = read(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "x.jpg", quality=100)
    assert np.abs(pixels[:, 0, 0].astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("name", ["x.gif", "x.tif", "x.png", "x.webp"])
def test_of_several_frames_the_first_is_read(tmp_path, caplog, name):
    frames = [Image.new("L", (8, 8), colour) for colour in (10, 200)]
    options = {"lossless": True} if name == "x.webp" else {}
    pixels = read(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], **options)
    assert np.abs(pixels.astype(int) - 10).max() <= 1
    assert "several frames" in caplog.text


def test_the_middle_square_is_resized(tmp_path):
    wide = np.zeros((8, 800), np.uint8)
    wide[:, 396:404] = GREY
    assert np.array_equal(read(tmp_path, Image.fromarray(wide), size=8)[0], GREY)


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def bomb(side):
    """A PNG of a few bytes that claims to have many pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 30_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused(tmp_path, side):
    (tmp_path / "x.png").write_bytes(bomb(side))
    with pytest.raises(BadInput, match=r"x\.png is no picture that can be read"):
        read_pictures([tmp_path / "x.png"], size=None)


def test_more_pictures_than_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: type("Free", (), {"available": 9}))
    with pytest.raises(BadInput, match="not enough memory"):
        read(tmp_path, Image.fromarray(GREY))
    with pytest.raises(BadInput, match="not enough memory"):
        read(tmp_path, Image.fromarray(GREY), size=10**6)


def test_a_fifo_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(BadInput, match="no regular file"):
        read_pictures([tmp_path / "x.png"], size=None)


def test_postscript_is_refused_whatever_its_name(tmp_path):
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    with pytest.raises(BadInput, match="no picture"):
        read_pictures([tmp_path / "x.png"], size=None)
    assert not is_picture(tmp_path / "x.eps")
    assert is_picture(tmp_path / "x.JPEG")


def encoded(kind):
    file = io.BytesIO()
    deep = kind in ("PNG", "TIFF")
    Image.fromarray(RAMP.astype(np.uint16) if deep else GREY).save(file, kind)
    return file.getvalue()


WHOLE = {kind: encoded(kind) for kind in ("PNG", "TIFF", "GIF", "JPEG", "BMP", "PPM", "WEBP")}


@settings(deadline=20_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    kept=st.floats(0.1, 1),
)
def test_damaged_pictures_cost_one_sentence(tmp_path, kind, damage, kept):
    content = bytearray(WHOLE[kind])
    for place, value in damage:
        content[int(place * len(content))] = value
    file = tmp_path / "x"
    file.write_bytes(content[: int(kept * len(content))])
    with contextlib.suppress(BadInput):
        pixels = read_pictures([file], size=8)
        assert pixels.dtype == torch.uint8
        assert pixels.shape[2:] == (8, 8)
