"""A folder of real pictures as users have them: of many sizes and formats, damaged, nested; and the distance of lumas."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from singdiffusion import SingDiffusionError
from singdiffusion.data.pictures import fit
from singdiffusion.evaluate.metrics.brightness import Lumas, brightness_distance
from singdiffusion.evaluate.real import RealPictures
from singdiffusion.evaluate.selection import controls_for

from ..painting.files import icc


def picture(seed, width=8, height=8):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Seven pictures: four squares, one of them a JPEG in a subfolder, and three wide ones; and a file that is not a picture."""
    (tmp_path / "more" / "deep").mkdir(parents=True)
    for i in range(3):
        picture(i).save(tmp_path / f"{i}.png")
        picture(10 + i, 12, 6).save(tmp_path / f"wide {i}.webp", lossless=True)
    picture(3).save(tmp_path / "more" / "deep" / "3.JPG", "JPEG")
    (tmp_path / "more" / "notes.txt").write_text("no picture")
    return tmp_path


def all_of(real, batch=2):
    return [row for part in real.batches(batch) for row in part]


def test_as_they_are_each_batch_of_one_size(folder):
    real = RealPictures(folder)
    batches = list(real.batches(2))
    assert sorted(tuple(part.shape) for part in batches) == [(1, 3, 6, 12), (2, 3, 6, 12), (2, 3, 8, 8), (2, 3, 8, 8)]
    assert all(part.dtype == torch.uint8 for part in batches)
    found = {row.numpy().tobytes() for row in all_of(real)}
    expected = {np.asarray(picture(i)).transpose(2, 0, 1).tobytes() for i in range(3)}
    assert expected < found
    assert len(found) == len(real) == 7
    assert real.warnings() == [
        "1 of 7 real pictures are JPEGs, whose artefacts alone move a Fréchet distance (clean-fid)"
    ]


def test_of_one_size(folder):
    real = RealPictures(folder, size=4)
    assert [tuple(part.shape) for part in real.batches(3)] == [(3, 3, 4, 4), (3, 3, 4, 4), (1, 3, 4, 4)]
    wide = torch.from_numpy(fit(picture(10, 12, 6), 4, 4).copy()).permute(2, 0, 1)
    assert any(torch.equal(row, wide) for row in all_of(real))
    assert "4 x 4" in real.protocol


def test_many_sizes_do_not_fill_the_memory(tmp_path):
    for i in range(40):
        picture(i, 8 + i).save(tmp_path / f"{i:02d}.png")
    real, read = RealPictures(tmp_path), []
    reader = real._read()
    real._read = lambda: (read.append(1) or row for row in reader)  # type: ignore[method-assign]
    first = next(iter(real.batches(2)))
    assert len(first) == 1
    assert len(read) == 8 * 2 + 1
    assert len(all_of(RealPictures(tmp_path))) == 40


def test_large_pictures_are_bounded_by_their_pixels(tmp_path, monkeypatch):
    for i in range(6):
        picture(i, 10 + i // 3, 10).save(tmp_path / f"{i}.png")
    monkeypatch.setattr("singdiffusion.evaluate.real.MOST_PIXELS", 200)
    assert [len(part) for part in RealPictures(tmp_path).batches()] == [2, 2, 1, 1]
    monkeypatch.setattr("singdiffusion.evaluate.real.WAITING", 0)
    assert [len(part) for part in RealPictures(tmp_path).batches()] == [1] * 6
    monkeypatch.setattr("singdiffusion.memory.free_memory", lambda: 100)
    with pytest.raises(SingDiffusionError, match=r"the real picture .*0.png needs about") as caught:
        list(RealPictures(tmp_path).batches())
    assert caught.value.setting == "real"


def test_processes_share_every_file_once(folder):
    class Share:
        def __init__(self, rank):
            self.rank = rank

        def share(self, work):
            return work[self.rank :: 3]

    shares = [all_of(RealPictures(folder, processes=Share(rank))) for rank in range(3)]  # type: ignore[arg-type]
    assert [len(each) for each in shares] == [3, 2, 2]
    together = sorted(row.numpy().tobytes() for each in shares for row in each)
    assert together == sorted(row.numpy().tobytes() for row in all_of(RealPictures(folder)))


def test_unreadable_pictures_are_skipped_and_named(folder):
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:60])
    (folder / "empty.png").write_bytes(b"")
    picture(0).save(folder / "moves.gif", save_all=True, append_images=[picture(1)])
    real = RealPictures(folder)
    assert len(all_of(real)) == 7
    assert len(all_of(real)) == 7, "a second pass skips them again and not twice"
    line = real.warnings()[0]
    assert line.startswith(f"3 of 10 files in {folder} were skipped: broken.png cannot be decoded")
    assert "moves.gif is animated" in line


def test_conversions_and_files_that_are_not_read_are_named(tmp_path):
    """The same pictures as encode reads: deep greys and color profiles by what they mean."""
    Image.fromarray(np.full((8, 8), 200, np.float32)).save(tmp_path / "deep.tiff")
    Image.new("L", (8, 8), 128).save(tmp_path / "old mac.jfif", "JPEG", quality=100, icc_profile=icc("GRAY", 1.8))
    Image.new("L", (8, 8), 128).save(tmp_path / "newer.png", icc_profile=icc("RGB", 1.8))
    Image.fromarray(np.full((8, 8), 300, np.float32)).save(tmp_path / "unclear.tiff")
    (tmp_path / "phone.heic").write_bytes(b"x")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    picture(0).save(tmp_path / ".ipynb_checkpoints" / "0.png")
    (tmp_path / "more").mkdir()
    picture(1).save(tmp_path / "more" / "1.png")
    (tmp_path / "more" / "back").symlink_to(tmp_path)
    real = RealPictures(tmp_path)
    found = [row for row in all_of(real) if len(set(row.flatten().tolist())) == 1]
    assert sorted(int(row[0, 0, 0]) for row in found) == [146, 146, 200]
    assert len(real) == 5
    lines = real.warnings()
    assert lines[0].startswith(
        f"1 of 5 files in {tmp_path} were skipped: unclear.tiff has an unclear range: 300 to 300"
    )
    assert lines[1] == (
        f"3 more in {tmp_path} are not read: .ipynb_checkpoints/ is a hidden folder or one of copies; more/back/ is another name of a "
        "folder that is read; phone.heic is of a format that Pillow cannot open here (.heic): convert it to .png or .jpg"
    )
    assert lines[2] == "real pictures were converted: color profile to sRGB (2), floating point to 8 bits (1)"
    assert lines[3].startswith("1 of 5 real pictures are JPEGs"), "a .jfif is one"
    all_of(real)
    assert real.warnings() == lines, "a second pass counts them again and not twice"


def test_pictures_of_a_control_folder(tmp_path):
    """Those of ``encode``: any format of Pillow, in subfolders too, in sRGB; what is not used is named."""
    pipe, lines = SimpleNamespace(controlnet=object()), []
    Image.new("RGB", (4, 4), (128,) * 3).save(tmp_path / "a.jfif", "JPEG", quality=100, icc_profile=icc("RGB", 1.8))
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (4, 4), "red").save(tmp_path / "sub" / "b.png")
    (tmp_path / "c.svg").write_text("<svg/>")
    found = controls_for(pipe, "model", tmp_path, lines.append)
    assert [image.getpixel((0, 0)) for image in found.images] == [(146, 146, 146), (255, 0, 0)]
    assert lines == [
        f"{tmp_path / 'c.svg'} is of a format that Pillow cannot open here (.svg): convert it to .png or .jpg",
        f"{tmp_path / 'a.jfif'}: color profile to sRGB",
    ]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "c.svg").write_text("<svg/>")
    with pytest.raises(SingDiffusionError, match="empty holds no pictures .*; c.svg is of a format that Pillow"):
        controls_for(pipe, "model", tmp_path / "empty")


def test_a_number_of_them(folder):
    some = RealPictures(folder, number=4)
    assert len(some) == len(all_of(some)) == 4
    assert some.files == RealPictures(folder, number=4).files
    assert len(RealPictures(folder, number=99)) == 7


def test_no_pictures(tmp_path):
    with pytest.raises(SingDiffusionError, match="there is no folder .*nowhere of real pictures"):
        RealPictures(tmp_path / "nowhere")
    picture(0).save(tmp_path / "one.png")
    with pytest.raises(SingDiffusionError, match="holds 1 pictures, and at least 2 are needed"):
        RealPictures(tmp_path)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=9), st.integers(-20, 20))
def test_the_distance_of_shifted_lumas_is_the_shift(values, shift):
    assert brightness_distance(values, [value + shift for value in values]) == pytest.approx(abs(shift), abs=1e-9)


def test_lumas_of_batches():
    """Rec. 601: 0.299 R + 0.587 G + 0.114 B."""
    seen = Lumas()
    seen.see(torch.tensor([[255, 0, 0], [0, 0, 100]], dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 2, 3))
    seen.see(torch.tensor([[7, 7, 7]], dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 5, 2))
    assert seen.values() == pytest.approx([7, 11.4, 76.245])
    assert brightness_distance(seen.values(), [0, 0, 0]) == pytest.approx((7 + 11.4 + 76.245) / 3)
    with pytest.raises(SingDiffusionError, match="there are no generated pictures"):
        brightness_distance(seen.values(), Lumas().values())


def test_many_control_pictures_do_not_fill_the_memory(tmp_path, monkeypatch):
    for i in range(3):
        picture(i).save(tmp_path / f"{i}.png")
    monkeypatch.setattr("singdiffusion.memory.free_memory", lambda: 3 * 3 * 8 * 8 - 1)
    with pytest.raises(SingDiffusionError, match="3 pictures of the folder .* needs? about") as caught:
        controls_for(SimpleNamespace(controlnet=1), "m", tmp_path)
    assert caught.value.setting == "control"
