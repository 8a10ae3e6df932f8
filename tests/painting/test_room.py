"""Memory for a picture is checked before it is painted; what fits is never refused."""

import threading

import psutil
import pytest
import torch

from singdiffusion import SingDiffusionError, tiny
from singdiffusion.painting import room
from singdiffusion.painting.paint import paint


@pytest.fixture(scope="module")
def pipe():
    return tiny.load_pipeline()


def test_a_picture_that_does_not_fit_is_one_line(pipe, monkeypatch):
    monkeypatch.setattr("singdiffusion.memory.free_memory", lambda: 2**30)
    room.require_room(pipe, 1, None, None)
    room.require_room(pipe, 16, 64, 64)
    with pytest.raises(
        SingDiffusionError, match=r"^a picture of 16384 x 16384 pixels needs about .* GiB of memory"
    ) as caught:
        room.require_room(pipe, 1, 16384, 16384)
    assert caught.value.setting == "height"
    with pytest.raises(SingDiffusionError, match=r"^a batch of 4096 pictures of 64 x 64 pixels needs") as caught:
        room.require_room(pipe, 4096, None, None)
    assert caught.value.setting == "batch"


def test_tiles_and_slices_need_less(pipe, monkeypatch):
    whole = room.least_memory(pipe, 4, 1024, 1024)
    monkeypatch.setattr(pipe.vae, "use_slicing", True)
    sliced = room.least_memory(pipe, 4, 1024, 1024)
    monkeypatch.setattr(pipe.vae, "use_tiling", True)
    assert whole > sliced > room.least_memory(pipe, 4, 1024, 1024) > 4 * 3 * 1024**2


def test_on_a_gpu_its_own_memory_counts(pipe, monkeypatch):
    monkeypatch.setattr(room, "_free_on", lambda device: 100)
    monkeypatch.setattr(type(pipe), "device", torch.device("cuda:0"))
    with pytest.raises(
        SingDiffusionError, match=r"^a picture of 64 x 64 pixels on cuda:0 needs .* and 9.3e-08 GiB are free"
    ):
        room.require_room(pipe, 1, 64, 64)


@pytest.mark.slow
def test_painting_really_takes_that_much(pipe):
    """The estimate is below what is measured, and not by far."""
    side, process, taken, done = 512, psutil.Process(), [0], threading.Event()

    def watch():
        while not done.wait(0.002):
            taken.append(process.memory_info().rss)

    pipe.set_progress_bar_config(disable=True)
    paint(pipe, ["a"], [0], num_inference_steps=1)
    before = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    paint(pipe, ["a"], [0], num_inference_steps=1, height=side, width=side)
    done.set()
    watcher.join()
    estimate = room.least_memory(pipe, 1, side, side)
    assert estimate < max(taken) - before < 6 * estimate
