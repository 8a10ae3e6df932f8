"""Writing in place of an old file or folder: nothing of others is touched, and a kill at any moment leaves the old or the new."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from singdiffusion import SingDiffusionError, staging
from singdiffusion.staging import put_right, restored, staged


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_folder(target: Path, text: str, owned: tuple[str, ...] = ("a",)) -> None:
    with staged(target, owned) as new:
        new.mkdir()
        (new / "a").write_text(text)


def test_names_that_a_user_could_have_are_left_alone(tmp_path):
    for name in ("module.old", "module.partial", ".module.partial", ".singdiffusion-mine", ".singdiffusion-empty"):
        (tmp_path / name).mkdir()
    for name in ("module.old/a", "module.partial/a", ".singdiffusion-mine/new", ".singdiffusion-mine/mark.json"):
        (tmp_path / name).write_text("x")
    before = tree(tmp_path)
    for text in ("1", "2"):
        write_folder(tmp_path / "module", text)
    put_right(tmp_path)
    assert tree(tmp_path) == before | {"module/a": "2"}
    assert (tmp_path / ".singdiffusion-empty").is_dir()


def test_other_entries_of_an_old_folder_stay(tmp_path):
    write_folder(tmp_path / "module", "1")
    (tmp_path / "module" / "notes").mkdir()
    (tmp_path / "module" / "notes" / "b").write_text("mine")
    write_folder(tmp_path / "module", "2")
    assert tree(tmp_path) == {"module/a": "2", "module/notes/b": "mine"}


def test_other_files_in_inner_folders_stay(tmp_path):
    def write(text: str) -> None:
        with staged(tmp_path / "module", ("a", "inner/own*", "gone/own")) as new:
            (new / "inner").mkdir(parents=True)
            (new / "inner" / "own.1").write_text(text)

    write("1")
    (tmp_path / "module" / "inner" / "deep").mkdir()
    (tmp_path / "module" / "gone").mkdir()
    for name in ("inner/deep/x", "inner/mine.txt", "inner/own.old", "gone/own", "gone/mine"):
        (tmp_path / "module" / name).write_text("x")
    write("2")
    kept = {"module/inner/deep/x", "module/inner/mine.txt", "module/gone/mine"}
    assert tree(tmp_path) == dict.fromkeys(kept, "x") | {"module/inner/own.1": "2"}


@pytest.mark.parametrize("inside", [(), ("lock",), ("lock", "mark.json")])
def test_a_process_that_died_before_its_mark_was_written_leaves_nothing(tmp_path, inside):
    stage = tmp_path / ".singdiffusion-abcdefg_"
    stage.mkdir()
    for name in inside:
        (stage / name).touch()
    put_right(tmp_path)
    assert stage.exists(), "it may be at work"
    os.utime(stage, (0, 0))
    put_right(tmp_path)
    assert not stage.exists()


@pytest.mark.parametrize("name", [".singdiffusion-abcdefg_", ".singdiffusion-mine", ".singdiffusion-abcdefghi"])
def test_a_folder_with_anything_else_is_not_ours(tmp_path, name):
    (tmp_path / name).mkdir()
    if name == ".singdiffusion-abcdefg_":
        (tmp_path / name / "file").touch()
    os.utime(tmp_path / name, (0, 0))
    put_right(tmp_path)
    assert (tmp_path / name).exists()


def test_links_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    write_folder(tmp_path / "real" / "module", "1")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "module")
    write_folder(tmp_path / "link", "2")
    assert (tmp_path / "link").is_symlink()
    assert tree(tmp_path / "real") == {"module/a": "2"}
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


def test_an_error_leaves_the_old_target(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with (
        pytest.raises(SingDiffusionError, match="cannot write .*file: No space left on device$"),
        staged(target) as new,
    ):
        new.write_text("half")
        raise OSError(28, os.strerror(28), str(new))
    assert tree(tmp_path) == {"file": "old"}
    with (
        pytest.raises(SingDiffusionError, match="cannot write .*: No such file or directory"),
        staged(tmp_path / "x/y"),
    ):
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from singdiffusion import staging
renames = int(sys.argv[2])
plain = os.replace
def counted(a, b):
    global renames
    if renames == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    renames -= 1
    plain(a, b)
os.replace = counted
with staging.staged(Path(sys.argv[1]), ("a",)) as new:
    new.mkdir()
    (new / "a").write_text("2")
    if renames < 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("renames", [-1, 0, 1, 2])
def test_a_kill_at_any_moment_is_put_right(tmp_path, renames):
    """-1: while writing; 0: before the first rename; 1: between the two; 2: before other entries are moved."""
    target = tmp_path / "module"
    write_folder(target, "1")
    (target / "mine").write_text("x")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(target), str(renames)])
    assert killed.returncode == -signal.SIGKILL
    left = [name for name in os.listdir(tmp_path) if name.startswith(staging.PREFIX)]
    assert len(left) == 1
    assert restored(target).exists()
    put_right(tmp_path)
    assert tree(tmp_path) == {"module/a": "1" if renames < 1 else "2", "module/mine": "x"}
    assert os.listdir(tmp_path) == ["module"]


def test_a_writer_at_work_is_left_alone(tmp_path):
    with staged(tmp_path / "file") as new:
        new.write_text("new")
        other = (
            f"from pathlib import Path; from singdiffusion.staging import put_right; put_right(Path({str(tmp_path)!r}))"
        )
        subprocess.run([sys.executable, "-c", other], check=True)
        assert new.exists()
    assert tree(tmp_path) == {"file": "new"}


def test_a_mark_that_names_another_folder_is_not_followed(tmp_path):
    stage = tmp_path / "inner" / ".singdiffusion-abc"
    (stage / "old").mkdir(parents=True)
    (stage / "lock").touch()
    for mark in ('{"folder": ".singdiffusion-abc", "target": "../x", "owned": []}', "[1]", "{", "[" * 5000):
        (stage / "mark.json").write_text(mark)
        put_right(tmp_path / "inner")
        assert (stage / "old").is_dir()


@pytest.mark.parametrize("name", ["lock", "mark.json", "new", "old"])
def test_a_folder_with_links_is_not_ours(tmp_path, name):
    """One that came with others' files could lead anywhere."""
    (tmp_path / "mine" / "a").mkdir(parents=True)
    (tmp_path / "file").write_text("mine")
    stage = tmp_path / "inner" / ".singdiffusion-abc"
    (stage / "old" / "a").mkdir(parents=True)
    (stage / "lock").touch()
    (stage / "mark.json").write_text('{"folder": ".singdiffusion-abc", "target": "module", "owned": []}')
    (tmp_path / "inner" / "module").mkdir()
    path = stage / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / ("file" if name in ("lock", "mark.json") else "mine"))
    put_right(tmp_path / "inner")
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "mine" / "a").is_dir()
    assert os.listdir(tmp_path / "inner" / "module") == []
