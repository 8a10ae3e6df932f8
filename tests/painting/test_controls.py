"""Pictures for a ControlNet: whether one is needed, and how files are read."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from singdiffusion import SingDiffusionError
from singdiffusion.painting.controls import needs_control, read_control

from .files import icc

WITH, WITHOUT = SimpleNamespace(controlnet=object()), SimpleNamespace()


def test_a_picture_is_given_exactly_where_there_is_a_controlnet(tmp_path):
    assert needs_control(WITH, tmp_path)
    assert not needs_control(WITHOUT, None)
    for pipe, source, message in (
        (WITH, None, "this model has a ControlNet and needs a picture"),
        (WITHOUT, tmp_path, "is for a ControlNet to follow, and a SimpleNamespace has none"),
    ):
        with pytest.raises(SingDiffusionError, match=message) as raised:
            needs_control(pipe, source)
        assert raised.value.setting == "control"


def test_pictures_are_rgb_and_upright(tmp_path):
    picture = Image.new("L", (3, 2))
    picture.putpixel((0, 0), 200)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    picture.save(tmp_path / "turned.png", exif=exif)
    found = read_control(tmp_path / "turned.png")
    assert (found.mode, found.size) == ("RGB", (2, 3))
    assert found.getpixel((1, 0)) == (200,) * 3


def test_sixteen_bits_become_eight(tmp_path):
    """A depth map's levels are scaled; Pillow's own conversion would clip them at 255."""
    levels = np.array([[0, 257 * 10, 32768, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "depth.png")
    assert np.asarray(read_control(tmp_path / "depth.png"))[0, :, 0].tolist() == [0, 10, 128, 255]


def test_color_profiles_are_converted_and_reported(tmp_path):
    lines = []
    Image.new("RGB", (4, 4), (128,) * 3).save(tmp_path / "a.png", icc_profile=icc("RGB", 1.8))
    Image.new("RGB", (4, 4), (128,) * 3).save(tmp_path / "b.png", icc_profile=b"none")
    assert read_control(tmp_path / "a.png", report=lines.append).getpixel((0, 0)) == (146,) * 3
    assert read_control(tmp_path / "b.png", report=lines.append).getpixel((0, 0)) == (128,) * 3
    assert lines[0] == f"{tmp_path / 'a.png'}: color profile to sRGB"
    assert lines[1].startswith(f"{tmp_path / 'b.png'}: color profile not used: ")


def test_a_picture_of_an_unclear_range_is_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 3.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(
        SingDiffusionError, match="a.tif cannot be read as a picture: it has an unclear range: 3.5 to 3.5 in floating"
    ):
        read_control(tmp_path / "a.tif")


def test_a_name_of_the_models_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = {"bolt": Image.new("RGB", (4, 4), "red")}
    assert read_control(tmp_path.__class__("bolt"), own) is own["bolt"]
    Image.new("RGB", (2, 2)).save(tmp_path / "bolt", "PNG")
    assert read_control(tmp_path.__class__("bolt"), own).size == (2, 2), "a file of that name comes first"


@pytest.mark.parametrize("content", [None, b"", b"no picture", "damaged"])
def test_what_cannot_be_read(tmp_path, content):
    file = tmp_path / "x.png"
    if content == "damaged":
        Image.new("RGB", (64, 64)).save(file)
        content = file.read_bytes()[:60]
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(
        SingDiffusionError, match="x.png cannot be read as a picture.*; the model's own are bolt"
    ) as raised:
        read_control(file, {"bolt": Image.new("RGB", (4, 4))})
    assert "\n" not in str(raised.value)
    assert raised.value.setting == "control"


def test_pipes_folders_and_pictures_beyond_the_memory(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    for file in (tmp_path / "pipe.png", tmp_path):
        with pytest.raises(SingDiffusionError, match="it is a folder, a pipe or a device"):
            read_control(file)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr("singdiffusion.memory.free_memory", lambda: 10_000)
    with pytest.raises(SingDiffusionError, match="a.png, of 64 x 64 pixels, needs about") as raised:
        read_control(tmp_path / "a.png")
    assert raised.value.setting == "control"
