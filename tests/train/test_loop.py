"""Whole runs in this process: they learn, they resume exactly, and their module works."""

import itertools
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionGLIGENPipeline
from safetensors.torch import load_file, save_file

from singdiffusion import MeanDecoder, SingDiffusion, SingDiffusionError, TimeFreeUNet, memory
from singdiffusion.data.manifest import read_metadata
from singdiffusion.data.shards import LatentDataset, Plan
from singdiffusion.train import samples, train
from singdiffusion.train.config import Schedule
from singdiffusion.train.loop import Agreed, Trainer
from singdiffusion.train.optimisation import learning_rate

from .world import COLORS, UNET, config, decoder, encoded, logged


def quiet(*_):
    pass


def run(folder, **changes):
    return train(config(folder, **changes), quiet, cpu=True)


def losses(folder):
    return [row["loss"] for row in logged(folder / "run")]


@pytest.mark.parametrize(
    "changes", [{}, decoder(), decoder(covariance_grid=2) | {"loss": "moments"}, {"loss": "v_prediction"}], ids=str
)
def test_it_learns_what_the_captions_mean(world, pipe, changes):
    """The module predicts black for black and white for white, a pipeline takes it, and its figures are those of the log."""
    found = run(world, steps=400, validation__every=1000, checkpoints__every_steps=1000, **changes)
    (checked,) = logged(world / "run", "validation.jsonl")
    assert found == {**checked, "seconds": found["seconds"], "pictures": 3200, "module": str(world / "run" / "module")}
    known = latents_of(world)
    power = torch.stack([y.mean(0) for y in known.values()])
    assert checked["excess"] < 0.15 * power.square().mean()
    assert checked["channel_mean_excess"] < 0.1 * power.mean((2, 3)).square().mean()
    card = (world / "run" / "module" / "README.md").read_text()
    assert f"{len(LatentDataset(world / 'shards'))} captioned pictures, 400 steps of 8 |" in card
    assert f"| excess | {checked['excess']:.4g} |" in card
    sing = SingDiffusion.from_pretrained(world / "run" / "module").enable(pipe)
    assert (sing.module.config.name, sing.module.config.sample_size) == ("small", 8)
    names = ["black", "grey", "white"]
    texts = pipe.encode_prompt(names, torch.device("cpu"), 1, False)[0]
    predicted = sing.module.guided_moments(
        torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0)), texts, method="mean"
    )[0]
    for i, name in enumerate(names):
        assert name == min(names, key=lambda other: float((predicted[i] - known[other].mean(0)).norm()))


def latents_of(world):
    """Return caption -> latents of its pictures."""
    data = LatentDataset(world / "shards")
    y, _ = data.read(np.arange(len(data)))
    names = [
        (world / "in" / key.split(": ")[1]).with_suffix(".txt").read_text() for key in data.keys(np.arange(len(data)))
    ]
    return {name: y[[i for i, other in enumerate(names) if other == name]] for name in COLORS}


def test_a_resumed_run_is_the_same_run(world):
    """To the bit: losses, validation and weights, although the run was stopped after seven steps."""
    run(world)
    whole, checked = logged(world / "run"), logged(world / "run", "validation.jsonl")
    weights = TimeFreeUNet.from_pretrained(world / "run" / "module" / "module").state_dict()
    shutil.move(world / "run", world / "first")
    run(world, steps=12, schedule__shape="constant")
    shutil.rmtree(world / "run")

    trainer = Trainer(config(world), quiet, cpu=True)
    trainer._agree = stop_at(trainer, 7)
    with pytest.raises(
        SingDiffusionError,
        match="stopped by SIGTERM at step 7; a checkpoint is written, run the same command to resume",
    ):
        trainer.run()
    assert len(logged(world / "run")) == 7
    run(world)
    assert logged(world / "run") == whole
    assert logged(world / "run", "validation.jsonl") == checked
    again = TimeFreeUNet.from_pretrained(world / "run" / "module" / "module").state_dict()
    assert all(torch.equal(value, again[key]) for key, value in weights.items())


def stop_at(trainer, step):
    """Return ``_agree`` as if a SIGTERM had come in a step."""
    real = trainer._agree
    return lambda *given: Agreed(real(*given).loss, 15 if trainer.progress.step + 1 == step else 0, False)


@pytest.fixture
def captioned(pipe, tmp_path):
    return encoded(pipe, tmp_path / "captioned", count=20, words=("morning", "noon", "night"))


def test_a_resumed_run_draws_the_same_captions(captioned):
    """Five epochs of two steps, stopped within one: each loss is the same to the bit. Without the cache of embeddings it is rounded."""
    options = {"steps": 10, "data__held_out": 4, **decoder()}
    run(captioned, **options)
    whole, checked = logged(captioned / "run"), logged(captioned / "run", "validation.jsonl")
    for more in ({}, {"data__workers": 2}):
        shutil.rmtree(captioned / "run")
        trainer = Trainer(config(captioned, **options | more), quiet, cpu=True)
        trainer._agree = stop_at(trainer, 5)
        with pytest.raises(SingDiffusionError, match="stopped by SIGTERM at step 5"):
            trainer.run()
        run(captioned, **options | more)
        assert logged(captioned / "run") == whole
        assert logged(captioned / "run", "validation.jsonl") == checked
    shutil.rmtree(captioned / "run")
    run(captioned, **options, data__text_cache_mib=0)
    assert losses(captioned) == pytest.approx([row["loss"] for row in whole], rel=1e-4)


@pytest.mark.parametrize("decay", [0.9, 0.0])
def test_the_module_is_the_averaged_one(world, decay):
    """The average is that of the weights in the checkpoints."""
    run(world, ema=decay, checkpoints__every_steps=1, checkpoints__keep=20)
    module = TimeFreeUNet.from_pretrained(world / "run" / "module" / "module").state_dict()
    steps = sorted((world / "run" / "checkpoints").iterdir())
    trained = [load_file(step / "model.safetensors") for step in steps]
    for key, value in module.items():
        if decay == 0:
            assert torch.equal(value, trained[-1][f"network.{key}"])
            continue
        assert torch.equal(value, load_file(steps[-1] / "ema.safetensors")[f"network.{key}"])
        mean = load_file(steps[0] / "ema.safetensors")[f"network.{key}"]
        for step, weights in enumerate(trained[1:], 2):  # EMAModel's own warm-up
            share = min(1 - step**-0.75, decay)
            mean = share * mean + (1 - share) * weights[f"network.{key}"]
        assert torch.allclose(value, mean, atol=1e-6), key


def test_micro_batches_change_rounding_only(world):
    run(world)
    whole = losses(world)
    shutil.rmtree(world / "run")
    run(world, micro_batch=2)
    assert losses(world) == pytest.approx(whole, rel=1e-4)


def test_resuming_with_other_micro_batches(world):
    """A step has as many pictures as before, over whose micro-batches gradients are summed."""
    run(world)
    whole = losses(world)
    shutil.rmtree(world / "run")
    run(world, steps=5, schedule__shape="constant")
    early = losses(world)
    shutil.rmtree(world / "run")
    run(world, steps=5, schedule__shape="constant", micro_batch=8, checkpoints__every_steps=5)
    run(world, steps=12, schedule__shape="constant", micro_batch=4)
    assert losses(world)[:5] == early
    assert len(losses(world)) == 12
    constant = losses(world)
    shutil.rmtree(world / "run")
    run(world, schedule__shape="constant")
    assert constant == pytest.approx(losses(world), rel=1e-4)
    assert constant != whole


def test_workers_change_nothing(world):
    run(world)
    whole = losses(world)
    shutil.rmtree(world / "run")
    run(world, data__workers=2)
    assert losses(world) == whole


def test_a_second_run_in_a_folder_is_refused(world):
    """While the first trains, and again once it has ended or failed."""
    first = Trainer(config(world, steps=2), quiet, cpu=True)
    with pytest.raises(SingDiffusionError, match=f"run is in use by process {os.getpid()} on .*; wait until it ends"):
        run(world, steps=2)
    first.run()
    with pytest.raises(SingDiffusionError, match="holds a run with another configuration"):
        run(world, steps=2, batch=4)
    run(world, steps=2)


def test_a_module_folder_of_others_is_refused_at_the_start(world):
    (world / "run" / "module").mkdir(parents=True)
    (world / "run" / "module" / "notes").write_text("mine")
    with pytest.raises(SingDiffusionError, match="module exists and is not a SingDiffusion module; choose another"):
        run(world)
    assert sorted(path.name for path in (world / "run").iterdir()) == [".train.json", ".train.lock", "module"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_during_the_export(world, number, status, monkeypatch):
    """The module is written whole, and the exit status names the signal."""
    export = Trainer.export
    monkeypatch.setattr(Trainer, "export", lambda self: os.kill(os.getpid(), number) or export(self))
    with pytest.raises(SingDiffusionError, match="at step 2; a checkpoint is written, the run is complete") as caught:
        run(world, steps=2)
    assert caught.value.status == status
    SingDiffusion.from_pretrained(world / "run" / "module")


def test_a_full_disk_at_the_export_leaves_the_module_before(world, monkeypatch):
    run(world, steps=2)
    before = (world / "run" / "module" / "sing_config.json").read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TimeFreeUNet, "save_pretrained", full)
    with pytest.raises(SingDiffusionError, match="cannot write .*module: No space left on device$"):
        run(world, steps=3, name="other")
    assert (world / "run" / "module" / "sing_config.json").read_text() == before
    assert not list((world / "run").glob(".singdiffusion-*"))


def test_checkpoints_are_kept_as_asked(world):
    run(world, checkpoints__keep=2)
    assert sorted(p.name for p in (world / "run" / "checkpoints").iterdir()) == ["step-00000008", "step-00000012"]


def test_a_finished_run_is_not_run_again(world):
    before = run(world)
    rows, checked = logged(world / "run"), logged(world / "run", "validation.jsonl")
    after = run(world)
    assert {k: before[k] for k in ("loss", "step")} == {k: after[k] for k in ("loss", "step")}
    assert logged(world / "run") == rows
    assert logged(world / "run", "validation.jsonl") == checked


def test_a_longer_run_resumes(world):
    run(world, schedule__shape="constant")
    first = losses(world)
    run(world, steps=20, schedule__shape="constant")
    assert losses(world)[:12] == first
    assert len(losses(world)) == 20


def test_another_configuration_is_refused(world):
    run(world)
    with pytest.raises(
        SingDiffusionError, match="holds a run with another configuration .optimizer.rate: 0.003, now 0.1"
    ):
        run(world, optimizer__rate=0.1)


def test_other_pictures_are_refused(world, pipe):
    """Others would be held out, among them pictures that were trained on. The folder may be another."""
    run(world)
    (world / "shards").rename(world / "moved")
    run(world, data__shards=str(world / "moved"), steps=14)
    more = encoded(pipe, world / "more", count=50)
    with pytest.raises(
        SingDiffusionError, match="holds a run on 48 other pictures than the 50 in .*shards; use those to resume"
    ):
        run(world, data__shards=str(more / "shards"), steps=14)
    assert json.loads((world / "run" / "config.json").read_text())["pictures"]["count"] == 48


def test_a_damaged_checkpoint_is_one_line(world):
    run(world)
    (last,) = (world / "run" / "checkpoints").glob("step-00000012")
    content = (last / "optimizer.bin").read_bytes()
    (last / "optimizer.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(
        SingDiffusionError,
        match="step-00000012 cannot be read: optimizer.bin is damaged.*; delete it to resume from step-00000008",
    ):
        run(world, steps=14)
    (last / "optimizer.bin").write_bytes(content)
    run(world, steps=14)


def test_a_loss_that_is_not_finite_stops_at_the_step(world):
    """It names the pictures and keeps the last good checkpoint."""
    wanted = config(world, checkpoints__every_steps=1, data__verify=False)
    plan = Plan(LatentDataset(world / "shards"), wanted.batch, wanted.seed, wanted.data.held_out)
    (key,) = plan.data.keys(plan.rows(2)[:1])  # in the third step's batch
    shard, _, name = key.partition(": ")
    file = world / "shards" / shard
    metadata, stored = read_metadata(file), load_file(file)
    stored["latents.16x16"][metadata["keys"]["16x16"].index(name)] = float("nan")
    save_file(stored, file, {"singdiffusion": json.dumps(metadata)})
    with pytest.raises(SingDiffusionError, match="the loss is nan at step 3, in a batch of 8 pictures"):
        train(wanted, quiet, cpu=True)
    bad = json.loads((world / "run" / "bad-step-3.json").read_text())
    assert key in bad["pictures"]
    assert len(bad["pictures"]) == 8
    kept = sorted(p.name for p in (world / "run" / "checkpoints").iterdir())
    assert kept == ["step-00000001", "step-00000002"]
    assert not (world / "run" / "module").exists()


def test_low_frequency_shards(pipe, tmp_path):
    folder = encoded(pipe, tmp_path, low_frequency=4)
    found = run(folder, steps=100, **decoder())
    assert found["excess"] < found["loss"]
    module = SingDiffusion.from_pretrained(folder / "run" / "module").module.network
    assert isinstance(module, MeanDecoder)
    with pytest.raises(
        SingDiffusionError, match="network.options.grid must be at most 4, the frequencies per side in .*, not 8"
    ):
        run(folder, out=str(folder / "b"), **decoder(grid=8))
    with pytest.raises(SingDiffusionError, match="holds low frequencies only, and a U-Net needs latents"):
        run(folder, out=str(folder / "c"))


def test_buckets_are_trained_on(pipe, tmp_path):
    folder = encoded(pipe, tmp_path, size=32, shapes=[(48, 24), (24, 48)])
    found = run(folder)
    assert found["pictures"] == 96


def test_epsilon(world, pipe):
    """OneMoreStep's other parametrisation: its alpha is written into the module, and pictures are finite."""
    run(world, loss="epsilon", alpha=0.3, steps=30)
    sing = SingDiffusion.from_pretrained(world / "run" / "module").enable(pipe)
    assert (sing.module.config.prediction, sing.module.config.alpha) == ("epsilon", 0.3)
    assert torch.isfinite(pipe("black", num_inference_steps=2, output_type="latent").images).all()


def test_from_the_bases_unet(world, pipe):
    lines = []
    train(config(world, network={"init": str(world / "base")}, optimizer__rate=1e-9, ema=0.0), lines.append, cpu=True)
    assert any("weights of the U-Net of" in line and "all but those of its time input" in line for line in lines)
    module = TimeFreeUNet.from_pretrained(world / "run" / "module" / "module")
    theirs = pipe.unet.state_dict()
    assert all(torch.allclose(value, theirs[key], atol=1e-6) for key, value in module.state_dict().items())


def test_from_the_weights_of_a_bases_unet_that_fit(world):
    lines = []
    shape = {
        "block_out_channels": [16, 32],
        "norm_num_groups": 8,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    }
    shape |= {"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "layers_per_block": 2, "attention_head_dim": 2}
    network = {"init": str(world / "base"), "options": shape}
    train(config(world, network=network, steps=1), lines.append, cpu=True)
    (line,) = [line for line in lines if "of the weights" in line]
    taken, ours = (int(part) for part in line.split("fresh")[-1].split(": ")[-1].split(" tensors")[0].split(" of "))
    assert 0 < taken < ours


def test_a_module_is_fine_tuned(world):
    run(world, steps=60)
    before = losses(world)
    found = run(world, out=str(world / "tuned"), network={"init_module": str(world / "run" / "module")}, steps=3)
    tuned = [row["loss"] for row in logged(world / "tuned")]
    assert tuned[0] < 0.8 * before[0]
    assert found["pictures"] == 24
    with pytest.raises(SingDiffusionError, match="is a unet: network.kind must be unet, not decoder"):
        run(world, out=str(world / "x"), network={"kind": "decoder", "init_module": str(world / "run" / "module")})
    with pytest.raises(SingDiffusionError, match="has vae_scaling_factor|has text_width|has latent_channels"):
        run(world, out=str(world / "y"), network={"init_module": "tiny-unet"})


def test_a_fine_tuned_module_keeps_guidance_and_text(world):
    """Its own text encoder; or the base's, where the shards were encoded for that one."""
    run(world, steps=2, bring_text=True)
    folder = world / "run" / "module"
    file = folder / "sing_config.json"
    changed = json.loads(file.read_text()) | {"guidance_scale": 3.5, "normalise_guidance": False}
    file.write_text(json.dumps(changed))
    before = SingDiffusion.from_pretrained(folder).module
    run(world, steps=1, out=str(world / "tuned"), network={"init_module": str(folder)})
    tuned = SingDiffusion.from_pretrained(world / "tuned" / "module").module
    assert (tuned.config.guidance_scale, tuned.config.normalise_guidance) == (3.5, False)
    assert torch.equal(tuned.encode_prompt("black")[0], before.encode_prompt("black")[0])
    with torch.no_grad():
        for weight in before.text.text_encoders[0].parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    before.save_pretrained(folder)
    run(world, steps=1, out=str(world / "retuned"), network={"init_module": str(folder)})
    retuned = SingDiffusion.from_pretrained(world / "retuned" / "module").module
    assert torch.equal(retuned.encode_prompt("black")[0], tuned.encode_prompt("black")[0])
    assert retuned.config.text_fingerprint == tuned.config.text_fingerprint


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"loss": "v_prediction"}, "was trained with loss sample: loss must be sample, not v_prediction"),
        ({"alpha": 0.3}, "was trained with alpha 0.0: alpha must be 0.0, not 0.3"),
    ],
)
def test_a_module_is_fine_tuned_as_it_was_trained(world, changes, match):
    run(world, steps=1)
    module = {"init_module": str(world / "run" / "module")}
    with pytest.raises(SingDiffusionError, match=match) as caught:
        run(world, out=str(world / "x"), network=module, **changes)
    assert caught.value.setting == next(iter(changes))


def test_samples_are_painted(world):
    from PIL import Image

    run(world, steps=2, validation__prompts=["black", "white"], validation__steps=2)
    with Image.open(world / "run" / "samples" / "step-00000002.png") as sheet:
        assert sheet.size == (32, 32)
    assert not any(p.suffix == ".partial" for p in (world / "run").rglob("*"))


@pytest.fixture
def loaded(monkeypatch):
    """The names of the bases that were loaded to paint samples."""
    names, real = [], samples.load_model
    monkeypatch.setattr(samples, "load_model", lambda name, *more: names.append(name) or real(name, *more))
    return names


def test_the_base_that_paints_samples_is_loaded_once(world, loaded):
    """For all validations, and the pictures without the module stay the same to the bit."""
    from PIL import Image

    run(world, validation__prompts=["black", "white"], validation__steps=2, validation__every=4)
    assert loaded == [str(world / "base")]
    sheets = [Image.open(file) for file in sorted((world / "run" / "samples").glob("*.png"))]
    assert [sheet.size for sheet in sheets] == [(32, 32)] * 3
    without, with_sing = ([np.asarray(sheet)[rows] for sheet in sheets] for rows in (slice(16), slice(16, 32)))
    assert all(np.array_equal(picture, without[0]) for picture in without)
    assert not np.array_equal(with_sing[0], with_sing[-1]), "the module learns"


def test_the_base_is_on_the_device_only_while_it_paints(world, monkeypatch):
    """In float16 there, and back on the CPU also after an error: training needs the device's memory."""
    moves = []
    monkeypatch.setattr(samples.SamplePainter, "_move", lambda self, device: moves.append(device.type))
    painter = samples.SamplePainter(config(world, validation__prompts=["black"]), torch.device("cuda"))
    assert painter.pipe.unet.dtype == torch.float16
    assert painter.pipe.unet.device.type == "cpu"
    monkeypatch.setattr(painter, "_row", lambda: moves.append("paints") or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        painter.paint(None, world / "sheet.png")
    assert moves == ["cuda", "paints", "cpu"]


def test_without_prompts_no_base_is_loaded(world, loaded):
    run(world, steps=2)
    assert loaded == []


def test_a_base_that_cannot_paint_is_refused_before_the_first_step(world, make_pipe):
    """Training itself needs its text encoder only."""
    for part in ("unet", "scheduler"):
        shutil.rmtree(world / "base" / part)
    run(world, steps=2)
    shutil.rmtree(world / "run")
    match = "data.base must be able to paint validation.prompts; .*: the model .* cannot be read"
    with pytest.raises(SingDiffusionError, match=match) as caught:
        run(world, steps=2, validation__prompts=["black"])
    assert caught.value.setting == "validation.prompts"
    assert not (world / "run" / "log.jsonl").exists()
    parts = {name: part for name, part in make_pipe(scaling=9.0).components.items() if name != "image_encoder"}
    StableDiffusionGLIGENPipeline(**parts, requires_safety_checker=False).save_pretrained(world / "base")
    with pytest.raises(SingDiffusionError, match="the pipeline class StableDiffusionGLIGENPipeline is not supported"):
        run(world, steps=2, validation__prompts=["black"])


def test_the_module_can_bring_its_text(world):
    run(world, steps=2, bring_text=True)
    sing = SingDiffusion.from_pretrained(world / "run" / "module")
    assert sing.module.encode_prompt("black")[0].shape == (1, 16, 16)


def test_tensorboard(world):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(world, log__trackers=["tensorboard"], log__every=2)
    events = EventAccumulator(str(world / "run" / "singdiffusion")).Reload()
    assert [round(e.value, 5) for e in events.Scalars("loss")] == [round(x, 5) for x in losses(world)]
    assert [e.step for e in events.Scalars("validation/loss")] == [6, 12]


def test_bfloat16_and_channels_last_and_compile_free_options(world):
    found = run(world, precision="bf16", channels_last=True, gradient_checkpointing=True)
    assert found["loss"] > 0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"micro_batch": 3}, "micro_batch must divide the 8 pictures that each of 1 processes has per step, not 3"),
        ({"data__held_out": 48}, "held_out must leave pictures to train on, and is 48 of 48"),
        ({"network": {"options": {"colour": 1}}}, "network.options: a TimeFreeUNet has no colour"),
        ({"network": {"options": {"block_out_channels": [3, 5]}}}, "network.options do not make a TimeFreeUNet"),
        (
            {"network": {"options": UNET | {"in_channels": 9}}},
            "the network has 9 latent channels, and the shards have 4",
        ),
        (
            {"network": {"options": UNET | {"cross_attention_dim": 8}}},
            "the network takes text of width 8, and the text of .* has 16",
        ),
        ({"optimizer__name": "adamw8bit"}, r"adamw8bit needs bitsandbytes: .*pip install '\.\[8bit\]'"),
        ({"log__trackers": ["abacus"]}, "log.trackers: 'abacus' is unknown; known: "),
        ({"log__trackers": ["aim"]}, "log.trackers: aim is not installed; pip install aim, or use log.trackers="),
        ({**decoder(width=2**20)}, "the training of .* M parameters needs about .* GiB of memory, and"),
        ({**decoder(width=-1)}, "width must be a whole number within 1..1048576, not -1"),
        ({**decoder(preset=[1])}, "unknown decoder preset"),
        ({"batch": 2**20, "micro_batch": 2**20}, "a micro-batch of 1,048,576 pictures needs about .* GiB of memory"),
        ({**decoder(covariance_grid=2)}, "network.options.covariance_grid must be 0 with loss sample, not 2"),
    ],
)
def test_settings_that_do_not_fit_together_are_one_line(world, changes, match, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 2**30)
    with pytest.raises(SingDiffusionError, match=match) as caught:
        run(world, **changes)
    assert "\n" not in str(caught.value)


def test_learning_rates():
    cosine = Schedule(shape="cosine", warm_up=10, hold=0.5, final=0.1)
    rates = [learning_rate(cosine, 2.0, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10:51] == pytest.approx([2.0] * 41)
    assert rates[75] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert all(a >= b for a, b in itertools.pairwise(rates[50:]))
    assert learning_rate(cosine, 2.0, 100, 100) == pytest.approx(0.2)
    constant = Schedule(shape="constant", warm_up=0)
    assert {learning_rate(constant, 2.0, step, 100) for step in range(100)} == {2.0}
