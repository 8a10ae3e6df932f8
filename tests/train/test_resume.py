"""State files of a run that are damaged: settings are refused in one line, logs are put right with one."""

import json
from types import SimpleNamespace

import pytest

from singdiffusion import SingDiffusionError
from singdiffusion.train import logs
from singdiffusion.train.resume import require_same_run, write_settings

from .world import config


class Pictures:
    digest, folder = "abc", "shards"

    def __len__(self):
        return 48


@pytest.fixture
def settings(tmp_path):
    made = config(tmp_path)
    made.out.mkdir()
    write_settings(made, Pictures())
    return made


WRONG = [
    "",
    "{",
    "5",
    "null",
    "[" * 100_000,
    '{"pictures": 5}',
    '{"pictures": {"count": 1, "digest": "a"}}',
    '{"a": 1, "a": 2}',
    "\0" * 50,
    '{"pictures": 1' + "0" * 5000 + "}",
]


@pytest.mark.parametrize("content", WRONG)
@pytest.mark.parametrize("begun", [True, False])
def test_settings_that_are_no_settings(settings, content, begun):
    """Without a checkpoint they may be another program's, and are not written over."""
    (settings.out / "config.json").write_text(content)
    with pytest.raises(
        SingDiffusionError, match="config.json.*; it must hold the settings of a run: restore"
    ) as caught:
        require_same_run(settings, Pictures(), begun)
    assert "\n" not in str(caught.value)
    assert caught.value.setting == "out"


def test_settings_of_the_wrong_type_are_named(settings):
    file = settings.out / "config.json"
    whole = json.loads(file.read_text())
    for change, match in (({"network": 5}, "network must be an object, not 5"), ({"batch": None}, "batch must be")):
        file.write_text(json.dumps(whole | change))
        with pytest.raises(SingDiffusionError, match=match):
            require_same_run(settings, Pictures(), True)


def test_settings_that_are_missing(settings):
    require_same_run(settings, Pictures(), True)
    (settings.out / "config.json").unlink()
    require_same_run(settings, Pictures(), False)
    with pytest.raises(SingDiffusionError, match="config.json cannot be read: No such file or directory; it must hold"):
        require_same_run(settings, Pictures(), True)


GARBAGE = [
    "5",
    "null",
    "[1]",
    "",
    "\udcff",
    "{",
    '{"step": 2}',
    '{"loss": 2}',
    '{"step": "2", "loss": 1}',
    '{"step": 2.5, "loss": 1}',
    '{"step": -1, "loss": 1}',
    '{"step": true, "loss": 1}',
    '{"step": 2, "loss": null}',
    '{"step": 2, "loss": NaN}',
    '{"step": 2, "loss": 1e999}',
    '{"step": 2, "loss": 1' + "0" * 400 + "}",
    '{"step": 2, "loss": 1, "loss": 1}',
    '{"step": 2, "loss": ' + "[" * 5000,
    "x" * 50_000,
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_a_log_is_removed_and_reported(tmp_path, garbage):
    first, last = '{"step": 1, "loss": 0.5}', '{"step": 3, "loss": 0.25}'
    file, lines = tmp_path / "log.jsonl", []
    file.write_bytes(f"{first}\n{garbage}\n{last}\n".encode("utf-8", "surrogateescape"))
    log = logs.RunLog(tmp_path, SimpleNamespace(is_main_process=True), 1, lines.append)
    log.trim("log.jsonl", 3)
    assert file.read_text() == f"{first}\n{last}\n"
    (line,) = lines
    assert "\n" not in line
    assert line.split(" ", 1)[1].startswith(f"lines that are no figures of a run are removed from {file}: line 2")
    log.trim("log.jsonl", 3)
    assert len(lines) == 1


@pytest.mark.parametrize("cut", range(1, 26))
def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path, cut):
    first, last = '{"step": 1, "loss": 0.5}\n', '{"step": 3, "loss": 0.25}\n'
    (tmp_path / "log.jsonl").write_text(first + last[: len(last) - cut])
    log = logs.RunLog(tmp_path, SimpleNamespace(is_main_process=True), 1, pytest.fail)
    log.trim("log.jsonl", 3)
    assert (tmp_path / "log.jsonl").read_text() == first + (last if cut == 1 else "")


def test_a_log_that_is_a_folder(tmp_path):
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(SingDiffusionError, match="log.jsonl is a folder, a pipe or a device, and must be a file"):
        logs.read_lines(tmp_path / "log.jsonl")
