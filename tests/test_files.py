"""A file is the old one or the new one, and pipes and devices stay what they are."""

import os
import threading

import pytest

from singdiffusion import SingDiffusionError
from singdiffusion.files import write_whole


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for text in ("one", "two"):
        write_whole(tmp_path / "link", text)
        assert (tmp_path / "real").read_text() == text
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


def test_a_pipe_receives_the_text(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_whole(tmp_path / "pipe", "figures")
    reader.join(10)
    assert read == ["figures"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_full_device_gives_one_line(tmp_path):
    device = tmp_path / "full"
    device.symlink_to("/dev/full")
    with pytest.raises(SingDiffusionError, match=r"cannot write .*full: No space left"):
        write_whole(device, "figures")
    assert device.is_char_device()


def test_a_folder_cannot_be_written_as_a_file(tmp_path):
    with pytest.raises(SingDiffusionError, match="cannot write"):
        write_whole(tmp_path, "figures")
    assert os.listdir(tmp_path) == []
