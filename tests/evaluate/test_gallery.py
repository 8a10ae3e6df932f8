"""Galleries: no picture is painted twice, different settings are kept apart, and a stopped run resumes with the same pictures."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from singdiffusion import SingDiffusionError
from singdiffusion.evaluate.digests import weights_digest
from singdiffusion.evaluate.gallery import Gallery, Job, jobs_of_captions, jobs_of_prompts
from singdiffusion.evaluate.painter import Controls, Painter
from singdiffusion.evaluate.processes import Processes
from singdiffusion.evaluate.remedies import Off
from singdiffusion.painting.paint import paint
from singdiffusion.painting.png import read_settings
from singdiffusion.painting.prompts import Prompt, named

PROMPTS = named(["a room", "a page", "a cat"])
OPTIONS = {"num_inference_steps": 2, "guidance_scale": 4.0}


@pytest.fixture(scope="module")
def processes():
    return Processes(cpu=True)


def painter(pipe, cache, processes, **changes):
    return Painter("m", pipe, cache, processes, **({"options": OPTIONS, "batch": 4} | changes))


def read(gallery, jobs):
    return np.concatenate([batch.numpy() for batch in gallery.batches(jobs)])


def test_jobs():
    assert [(j.prompt.id, j.seed) for j in jobs_of_prompts(PROMPTS[:2], 2, 5)] == [
        ("0", 5),
        ("0", 6),
        ("1", 5),
        ("1", 6),
    ]
    assert [(j.prompt.id, j.seed) for j in jobs_of_captions(PROMPTS, 5, 1)] == [
        ("0", 1),
        ("1", 2),
        ("2", 3),
        ("0", 4),
        ("1", 5),
    ]


def test_pictures_are_those_of_the_pipeline_and_are_painted_once(pipe, tmp_path, processes):
    jobs = jobs_of_prompts(PROMPTS, 2, 3)
    mine = painter(pipe, tmp_path, processes)
    ticks = []
    gallery = mine.paint(Off(), jobs, advance=ticks.append)
    assert mine.painted == sum(ticks) == len(jobs)
    texts, seeds = [job.prompt.text for job in jobs], [job.seed for job in jobs]
    by_hand = [*paint(pipe, texts[:4], seeds[:4], **OPTIONS), *paint(pipe, texts[4:], seeds[4:], **OPTIONS)]
    np.testing.assert_array_equal(read(gallery, jobs), np.stack([np.asarray(i) for i in by_hand]).transpose(0, 3, 1, 2))
    times = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.png")}
    again = painter(pipe, tmp_path, processes)
    again.paint(Off(), jobs, advance=ticks.append)
    assert again.painted == 0
    assert sum(ticks) == 2 * len(jobs)
    assert times == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.png")}


def test_a_picture_records_how_it_was_made(pipe, tmp_path, processes):
    job = Job(Prompt("x/1", "ein Zimmer"), 7)
    gallery = painter(pipe, tmp_path, processes).paint(Off(), [job])
    with Image.open(gallery.file(job)) as picture:
        settings = read_settings(picture)
        assert (settings["prompt"], settings["seed"]) == ("ein Zimmer", 7)
        assert settings["details"] == gallery.settings
    assert json.loads((gallery.folder / "settings.json").read_text()) == gallery.settings
    assert gallery.file(job).name.startswith("x-1-7-")


@pytest.mark.parametrize("gone", [[0], [5], [1, 2, 6], [0, 1, 2, 3, 4, 5, 6]])
def test_what_is_painted_again_is_the_same(pipe, tmp_path, processes, gone):
    """Bit for bit, because the batches are those of the whole list, whatever is missing."""
    jobs = jobs_of_captions(PROMPTS, 7, 0)
    gallery = painter(pipe, tmp_path, processes).paint(Off(), jobs)
    before = read(gallery, jobs)
    for i in gone:
        gallery.file(jobs[i]).unlink()
    again = painter(pipe, tmp_path, processes)
    again.paint(Off(), jobs)
    assert again.painted >= len(gone)
    np.testing.assert_array_equal(read(gallery, jobs), before)


def test_an_empty_file_is_painted_again_and_a_damaged_one_is_named(pipe, tmp_path, processes):
    jobs = jobs_of_captions(PROMPTS, 2, 0)
    gallery = painter(pipe, tmp_path, processes).paint(Off(), jobs)
    before = read(gallery, jobs)
    gallery.file(jobs[0]).write_bytes(b"")
    painter(pipe, tmp_path, processes).paint(Off(), jobs)
    np.testing.assert_array_equal(read(gallery, jobs), before)
    whole = gallery.file(jobs[1]).read_bytes()
    for damaged in (whole[:60], whole[: len(whole) // 2], b"no picture"):
        gallery.file(jobs[1]).write_bytes(damaged)
        with pytest.raises(SingDiffusionError, match="cannot be read; delete it and run again"):
            gallery.read(jobs[1])


def test_pictures_of_others_in_a_gallery_are_named(pipe, tmp_path, processes, monkeypatch):
    jobs = jobs_of_captions(PROMPTS, 2, 0)
    gallery = painter(pipe, tmp_path, processes).paint(Off(), jobs)
    Image.new("RGB", (9, 8)).save(gallery.file(jobs[1]))
    with pytest.raises(SingDiffusionError, match="has 9 x 8 pixels, and others of its gallery 16 x 16; delete it"):
        read(gallery, jobs)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)  # twice as many are an error
    with pytest.raises(SingDiffusionError, match="cannot be read; delete it and run again"):
        gallery.read(jobs[1])
    monkeypatch.undo()
    monkeypatch.setattr("singdiffusion.memory.free_memory", lambda: 100)
    with pytest.raises(SingDiffusionError, match="needs about .* GiB of memory"):
        gallery.read(jobs[0])


def test_large_pictures_are_read_in_small_batches_and_shown_small(tmp_path, monkeypatch):
    gallery, jobs = Gallery(tmp_path, {}), jobs_of_captions(PROMPTS, 5, 0)
    for job in jobs:
        gallery.file(job).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1000, 600)).save(gallery.file(job))
    monkeypatch.setattr("singdiffusion.evaluate.gallery.MOST_PIXELS", 2 * 1000 * 600)
    assert [len(batch) for batch in gallery.batches(jobs)] == [2, 2, 1]
    assert {image.size for image in gallery.examples(jobs)} == {(512, 307)}


def test_more_pictures_than_can_be_listed():
    with pytest.raises(SingDiffusionError, match="a list of 3,000,000,000,000 pictures needs about"):
        jobs_of_prompts(PROMPTS, 10**12, 0)


def test_different_settings_have_different_galleries(make_pipe, tmp_path, processes):
    folders = set()

    def add(**changes):
        pipe = changes.pop("pipe", None) or make_pipe()
        folders.add(painter(pipe, tmp_path, processes, **changes).gallery(Off()).folder)

    add()
    add()
    assert len(folders) == 1
    add(options=OPTIONS | {"num_inference_steps": 3})
    add(options=OPTIONS | {"guidance_scale": 1.0})
    add(negative_prompt="grey")
    add(pipe=make_pipe(seed=1))
    add(controls=Controls([Image.new("RGB", (8, 8))]))
    add(controls=Controls([Image.new("RGB", (8, 8), "white")]))
    trained = make_pipe()
    with torch.no_grad():
        trained.unet.conv_in.weight.mul_(1.001)
    add(pipe=trained)
    moved = make_pipe()
    moved.scheduler = type(moved.scheduler).from_config(moved.scheduler.config, timestep_spacing="trailing")
    add(pipe=moved)
    assert len(folders) == 9
    mine = painter(make_pipe(), tmp_path, processes)
    folders |= {mine.gallery(Off(), guidance_scale=2.0).folder, mine.gallery(Off(), guidance_scale=4.0).folder}
    assert len(folders) == 10  # 4 is in the options


def test_the_weights_digest_depends_on_the_weights_and_not_on_their_order(pipe):
    one = weights_digest({"a": pipe.unet, "b": pipe.vae})
    assert one == weights_digest({"b": pipe.vae, "a": pipe.unet})
    assert one != weights_digest({"a": pipe.unet})


@given(st.lists(st.tuples(st.text(max_size=12), st.text(min_size=1, max_size=12)), min_size=2, max_size=6, unique=True))
@settings(max_examples=100)
def test_no_two_captions_share_a_file(tmp_path_factory, pairs):
    gallery = Gallery(tmp_path_factory.getbasetemp(), {})
    jobs = [Job(Prompt(id, text), seed) for id, text in pairs for seed in (0, 1)]
    assert len({gallery.file(job) for job in jobs}) == len(jobs)
    assert all(gallery.file(job).parent.parent == gallery.folder for job in jobs)


def test_nan_never_becomes_a_picture(pipe, tmp_path, processes):
    with torch.no_grad():
        pipe.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(SingDiffusionError, match="painted NaN or infinite values for 'a room'"):
        painter(pipe, tmp_path, processes).paint(Off(), jobs_of_captions(PROMPTS, 1, 0))
    assert not list(tmp_path.rglob("*.png"))


def test_what_a_controlnet_follows():
    white, red = Image.new("RGB", (4, 4), "white"), Image.new("RGB", (4, 4), "red")
    controls = Controls([white, red], plain="solid")
    assert controls.of(Job(Prompt("1", "a logo"), 3)) is red
    assert controls.of(Job(Prompt("1", "solid black"), 3)).getpixel((0, 0)) == (0, 0, 0)
