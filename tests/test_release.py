"""What is released: the version, the citation, the wheel and the sdist, and the wheel alone in an empty environment."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import singdiffusion
from singdiffusion.compat import toml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "singdiffusion"
PROJECT = toml().loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# extras for users; the others are for developers
OURS = (
    "train",
    "evaluate",
    "theory",
    "web",
    "inception",
    "8bit",
)
pytestmark = pytest.mark.xdist_group("release")  # one environment, whatever the number of workers
LIMIT = 48 * 2**20  # bytes of the wheel


def names(requirements):
    return {canonicalize_name(Requirement(each).name) for each in requirements}


# -- one version, one citation, floors ---------------------------------------------------------------------------------


def test_the_changelog_and_the_citation_name_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == singdiffusion.__version__
    newest = re.search(r"^## (\d\S*) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest.groups() == (singdiffusion.__version__, str(citation["date-released"]))


def test_the_citation_names_the_paper_and_has_what_the_format_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"]
    assert {"message", "title", "authors"} <= citation.keys()
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert [f"{each['given-names']} {each['family-names']}" for each in paper["authors"]] == [
        "Pengze Zhang", "Hubery Yin", "Chen Li", "Xiaohua Xie",
    ]  # fmt: skip
    assert paper["identifiers"] == [{"type": "other", "value": "arXiv:2403.08381"}]
    notice = " ".join((ROOT / "NOTICE").read_text().split())
    assert paper["title"] in notice
    assert citation["authors"] == [{"name": "The singdiffusion authors"}]
    assert "Copyright 2026 The singdiffusion authors" in notice


def pins(file):
    lines = (line.strip() for line in (ROOT / file).read_text().splitlines())
    return {
        canonicalize_name(name): Version(version)
        for name, _, version in (line.partition("==") for line in lines if line and not line.startswith("#"))
    }


# torch: the lowest one is tested by hand (docs/compatibility.md), and the newer one that is installed needs a newer typing-extensions
NOT_THE_FLOOR = {"torch", "typing-extensions"}


@pytest.mark.parametrize("extra", ["", "train", "evaluate", "theory"])
def test_the_oldest_environment_has_the_floors_and_the_other_one_fits_the_ranges(extra):
    oldest, newest = pins("environments/oldest.txt"), pins("constraints.txt")
    for line in EXTRAS[extra] if extra else PROJECT["dependencies"]:
        needed = Requirement(line)
        name, (floor,) = canonicalize_name(needed.name), needed.specifier
        if needed.marker is None:  # tomli is for Python 3.10 only
            assert newest[name] in needed.specifier
            assert oldest[name] in needed.specifier
            assert name in NOT_THE_FLOOR or oldest[name] == Version(floor.version), name


def test_installing_changes_no_package_of_a_host(tmp_path):
    """A plug-in that moves its host's versions breaks the host; this test runs in the oldest and in other environments too."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-build-isolation", "--quiet"]
    done = subprocess.run([*command, "--report", tmp_path / "report.json", ROOT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-800:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert [each["metadata"]["name"] for each in report["install"]] == ["singdiffusion"]


# -- the core needs what it declares, and no more ------------------------------------------------------------------------

MODULES = {"pillow": "PIL", "huggingface-hub": "huggingface_hub", "typing-extensions": "typing_extensions"}
# diffusers works without it, but then needs twice the time to load a large model, warns, and cannot offload it
AT_RUN_TIME = {"accelerate"}
ROOMS_OF_EXTRAS = {"train", "evaluate", "theory", "web"}


def imported(at_the_top):
    """Return the packages that the rooms without an extra import: in all of their code, or only at its top level."""
    found = set()
    for file in SOURCE.rglob("*.py"):
        if file.relative_to(SOURCE).parts[0] in ROOMS_OF_EXTRAS:
            continue
        tree = ast.parse(file.read_text())
        for node in tree.body if at_the_top else ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"singdiffusion"}


def test_the_core_imports_every_package_that_it_declares():
    declared = names(PROJECT["dependencies"])
    modules = {MODULES.get(name, name) for name in declared - AT_RUN_TIME}
    assert modules == imported(at_the_top=False) & {MODULES.get(name, name) for name in declared}
    assert imported(at_the_top=True) <= modules


# -- wheel and sdist -----------------------------------------------------------------------------------------------------

LEFT_OUT = (
    ".venv",
    "build",
    "dist",
    "out",
    "__pycache__",
    ".git",
    ".hypothesis",
    ".pytest_cache",
    ".ruff_cache",
    "PKG-INFO",
)


def tracked():
    """Return the files of a release, relative: those that git tracks, or in an unpacked sdist all that no command has made."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        return {Path(name) for name in listed.split("\0") if name}
    every = (file.relative_to(ROOT) for file in ROOT.rglob("*") if file.is_file())
    return {
        file
        for file in every
        if not any(part == each or part.startswith(".venv") for part in file.parts for each in LEFT_OUT)
    }


def clean_copy(to, mode, seconds):
    """Copy the repository with other file modes and times, which must not change what is built; return the copy."""
    for name in tracked():
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)
            os.chmod(to / name, mode)
            os.utime(to / name, (seconds, seconds))
    return to


def build(tree, to, *what):
    """Run ``python -m build`` with the pinned hatchling, the installed one or one that is downloaded; return suffix -> file."""
    isolated = ["--no-isolation"] if find_spec("hatchling") else []
    env = os.environ | {"PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "SOURCE_DATE_EPOCH": "1732406400"}
    command = [sys.executable, "-m", "build", *isolated, "--outdir", to, *what, tree]
    done = subprocess.run([str(part) for part in command], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return {file.suffix: file for file in to.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return suffix -> file: the sdist, and the wheel that is built from it."""
    here = tmp_path_factory.mktemp("release")
    return build(clean_copy(here / "tree", 0o644, 1_600_000_000), here / "dist")


@pytest.mark.slow
def test_builds_are_the_same_bytes_from_another_folder_and_straight_from_the_tree(built, tmp_path):
    again = build(
        clean_copy(tmp_path / "somewhere" / "else", 0o600, 1_700_000_000), tmp_path / "dist", "--sdist", "--wheel"
    )
    for suffix, file in built.items():
        assert again[suffix].name == file.name
        assert again[suffix].read_bytes() == file.read_bytes(), file.name


@pytest.mark.slow
def test_twine_takes_both(built):
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.values())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_wheel_is_the_package_and_no_more(built):
    wheel = built[".whl"]
    assert wheel.stat().st_size < LIMIT
    assert wheel.name == f"singdiffusion-{singdiffusion.__version__}-py3-none-any.whl"
    inside = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    about = {file for file in inside if file.parts[0].endswith(".dist-info")}
    assert inside - about == {file.relative_to("src") for file in tracked() if file.parts[0] == "src"}
    assert {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "LICENSE", "NOTICE"} == {file.name for file in about}
    expected = ["py.typed", "tiny/base/unet/diffusion_pytorch_model.safetensors", "train/presets/fine-tune.toml"]
    assert {Path("singdiffusion", each) for each in expected} <= inside


@pytest.mark.slow
def test_the_sdist_is_the_repository(built):
    with tarfile.open(built[".gz"]) as archive:
        inside = {Path(*Path(name).parts[1:]) for name in archive.getnames()}
    expected = {file for file in tracked() if file.parts[0] != ".ci"}
    assert inside == expected | {Path("PKG-INFO")}


# -- installed in an empty environment -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Return ``run(*command)``: it runs in an environment with the wheel, in a folder that is not the repository."""
    venv, elsewhere = tmp_path_factory.mktemp("environment") / "venv", tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env |= {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    scripts = venv / ("Scripts" if os.name == "nt" else "bin")

    def run(*command, status=0):
        program, *rest = map(str, command)
        done = subprocess.run([str(scripts / program), *rest], cwd=elsewhere, env=env, capture_output=True, text=True)
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
        assert "Traceback" not in done.stderr
        return done

    run("python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", built[".whl"])
    run.elsewhere = elsewhere
    return run


@pytest.mark.slow
def test_an_installed_wheel_brings_no_package_that_only_an_extra_needs(installed):
    listed = json.loads(installed("python", "-m", "pip", "list", "--format", "json").stdout)
    there = {canonicalize_name(each["name"]) for each in listed}
    assert names(PROJECT["dependencies"]) <= there
    of_extras = names(line for extra in OURS for line in EXTRAS[extra]) - names(PROJECT["dependencies"])
    assert {"matplotlib", "scipy", "gradio", "datasets", "torchmetrics"} <= of_extras
    assert not there & (of_extras | {"torchvision", "pandas", "tensorboard", "pytest"})


@pytest.mark.slow
def test_an_installed_wheel_paints_and_audits(installed):
    assert installed("singdiffusion", "--version").stdout == f"singdiffusion {singdiffusion.__version__}\n"
    installed("singdiffusion", "generate", "solid black background", "--out", "out", "--steps", "4")
    (picture,) = (installed.elsewhere / "out").glob("*.png")
    assert picture.stat().st_size > 0
    assert installed("singdiffusion", "audit", "tiny").stdout.startswith("present: ")
    origin = installed("python", "-c", "import singdiffusion; print(singdiffusion.__file__)").stdout
    assert "site-packages" in origin


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("theory", "theory --out out"),
        ("evaluate", "evaluate brightness --out out"),
        ("evaluate", "evaluate fidelity --out out"),
        ("evaluate", "evaluate pareto --out out"),
        ("evaluate", "evaluate remedies --out out"),
        ("train", "train --config tiny-decoder --shards none --out out"),
        ("train", "encode an/id shards --base tiny"),
        ("train", "encode {a,b}.tar shards --base tiny"),
        ("web", "serve --port 0"),
    ],
)
def test_a_command_whose_extra_is_not_installed_names_it(installed, extra, command):
    done = installed("singdiffusion", *command.split(), status=1)
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert line.endswith(
        f"not installed: install singdiffusion with its extra '{extra}' (in a clone: pip install '.[{extra}]')"
    )
