"""Checkpoints: a damaged or incomplete one is named, nothing of others is deleted, no code in a file runs."""

import json
import os
import pickle
import zipfile
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from singdiffusion import SingDiffusionError
from singdiffusion.staging import PREFIX
from singdiffusion.train import checkpoints
from singdiffusion.train.checkpoints import CheckpointStore, Progress

FILES = ("ema.safetensors", "model.safetensors", "optimizer.bin", "progress.json", "random-0.safetensors")


@pytest.fixture
def run(tmp_path):
    """A prepared network, and a function that writes the checkpoints of steps."""
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(3, 2)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    store = CheckpointStore(tmp_path, 2)
    average = {"weight": torch.ones(2, 3)}

    def save(*steps):
        for step in steps:
            store.save(accelerator, Progress(step=step, averaged=step), average)
        return store.folder / f"step-{steps[-1]:08d}"

    return SimpleNamespace(accelerator=accelerator, store=store, save=save, model=model)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_restores_weights_average_and_random_state(run):
    last = run.save(4)
    assert tuple(names(last)) == FILES
    state, weight = torch.get_rng_state(), run.model.weight.detach().clone()
    torch.manual_seed(5)
    with torch.no_grad():
        run.model.weight.zero_()
    progress, average = run.store.load(run.accelerator)
    assert progress == Progress(step=4, averaged=4)
    assert torch.equal(average["weight"], torch.ones(2, 3))
    assert torch.equal(run.model.weight, weight)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", FILES)
def test_what_is_missing_or_damaged_is_named(run, name):
    file = run.save(4, 8) / name
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(SingDiffusionError, match=f"it lacks {name}; delete it to resume from step-00000004$"):
        run.store.load(run.accelerator)
    middle = len(content) // 2
    changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    for damaged in (content[:middle], b"", b"\0" * len(content), changed):
        file.write_bytes(damaged)
        with pytest.raises(SingDiffusionError, match=f"{name}.*; delete it to resume from step-00000004$"):
            run.store.load(run.accelerator)
    file.write_bytes(content)
    assert run.store.load(run.accelerator)[0].step == 8


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"step": 7}, "progress.json is of step 7"),
        ({"step": "8"}, "progress.json: step must be a whole number, not '8'"),
        ({"world": 10**30}, "it lacks random-1.safetensors"),
        ({"world": 2}, "it lacks random-1.safetensors"),
        ({"seconds": -1.0}, "seconds must be at least 0.0, not -1.0"),
        ({"files": {}}, "it lacks ema.safetensors"),
        ({"files": {"/dev/zero": {"bytes": 1, "crc32": 1}}}, "it lacks /dev/zero"),
        ({"files": 5}, "progress.json: files is wrong"),
        ({"more": 1}, "progress.json: more is unknown"),
    ],
)
def test_progress_of_wrong_values(run, change, match):
    file = run.save(8) / "progress.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(SingDiffusionError, match=f"{match}.*; delete it to begin again$"):
        run.store.load(run.accelerator)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_does_not_run(run, tmp_path, monkeypatch, zipped):
    """Neither as torch writes pickles now nor in its older forms, even where the list of files fits."""
    monkeypatch.chdir(tmp_path)
    last = run.save(8)
    if zipped:
        torch.save({"state": Evil(), "param_groups": []}, last / "optimizer.bin")
        assert zipfile.is_zipfile(last / "optimizer.bin")
    else:
        (last / "optimizer.bin").write_bytes(pickle.dumps(Evil()))
    (last / "random_states_0.pkl").write_bytes(pickle.dumps(Evil()))
    record = json.loads((last / "progress.json").read_text())
    record["files"] = {name: stored.model_dump() for name, stored in checkpoints._files(last).items()}
    (last / "progress.json").write_text(json.dumps(record))
    with pytest.raises(SingDiffusionError, match="cannot be read") as caught:
        run.store.load(run.accelerator)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "evil").exists()


def test_only_whole_checkpoints_of_ours_are_deleted(run):
    """Of other folders, whatever their names, nothing is touched; a checkpoint that holds a user's file stays, too."""
    folder = run.save(1).parent
    for name in ("partial-00000002", "step-best", "step-00000000", "step-7", ".singdiffusion-mine"):
        (folder / name).mkdir()
        (folder / name / "notes").write_text("mine")
    run.save(2)
    (folder / "step-00000002" / "notes").write_text("mine")
    run.save(3, 4, 5)
    ours = ["step-00000002", "step-00000004", "step-00000005"]
    others = ["partial-00000002", "step-best", "step-00000000", "step-7", ".singdiffusion-mine"]
    assert names(folder) == sorted(ours + others)
    assert all((folder / name / "notes").read_text() == "mine" for name in others)


def test_a_failed_write_leaves_the_one_before(run, monkeypatch):
    folder = run.save(4).parent

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "_sync", full)
    match = "cannot write the checkpoint .*step-00000008: No space left on device; the one before, step-00000004, is complete$"
    with pytest.raises(SingDiffusionError, match=match):
        run.save(8)
    assert names(folder) == ["step-00000004"]
    assert not [name for name in names(folder) if name.startswith(PREFIX)]
