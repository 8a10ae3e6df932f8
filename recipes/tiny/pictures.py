"""Pictures of the embedded world and their captions: solid grounds, line-art logos, emoji, and real light.

Every picture is a composite drawn at random from a ``numpy.random.Generator``; the same generator gives the same pictures.
"""

import functools
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from . import sources
from .vocabulary import COLOURS, EMOJI, LIGHT, LINE, PLACES, SHARES, UNSAID

SIZE = 64
ICON_SIZES = (46, 50, 54)
SHIFT = 3  # an icon's centre wanders by up to this many pixels
JITTER = 6  # and its ground by up to this many of 255 levels a channel
HELD_OUT = 0.05
VIEWS_PER_PLACE = 160
FIELD_OF_VIEW = 75.0  # degrees

Picture = np.ndarray  # uint8 [64, 64, 3]


def held_out(kind: str, name: str) -> bool:
    """Whether an icon is kept from training: one in twenty, by a hash of its name, for good."""
    digest = hashlib.sha256(f"{kind}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < HELD_OUT


def _svg(icon: tuple[str, int, int], colour: str) -> str:
    body, width, height = icon
    side = max(width, height)  # a square view box, the icon in its middle
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{(width - side) / 2} {(height - side) / 2} {side} {side}" color="{colour}">{body.replace("currentColor", colour)}</svg>'
    )


def render(icon: tuple[str, int, int], size: int, colour: str = "#000") -> np.ndarray:
    """Rasterise an icon: float32 [size, size, 4], colours not multiplied by alpha, all in 0..1."""
    import resvg_py  # pyright: ignore[reportMissingImports]  (extra `recipes`)

    png = resvg_py.svg_to_bytes(svg_string=_svg(icon, colour), width=size, height=size)
    with Image.open(io.BytesIO(bytes(png))) as image:
        return np.asarray(image.convert("RGBA"), np.float32) / 255


@functools.lru_cache(maxsize=1)
def _directions() -> np.ndarray:
    """Rays of a pinhole camera looking along +z: [SIZE, SIZE, 3]."""
    half = np.tan(np.radians(FIELD_OF_VIEW / 2))
    axis = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    x, y = np.meshgrid(axis * half, -axis * half)
    rays = np.stack([x, y, np.ones_like(x)], -1)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def view(panorama: np.ndarray, yaw: float, pitch: float) -> np.ndarray:
    """Perspective view of an equirectangular panorama [H, W, 3], angles in radians, bilinear: [SIZE, SIZE, 3]."""
    height, width, _ = panorama.shape
    x, y, z = np.moveaxis(_directions(), -1, 0)
    y, z = y * np.cos(pitch) + z * np.sin(pitch), z * np.cos(pitch) - y * np.sin(pitch)
    u = ((np.arctan2(x, z) + yaw) / (2 * np.pi) % 1) * width - 0.5
    v = np.clip((0.5 - np.arcsin(np.clip(y, -1, 1)) / np.pi) * height - 0.5, 0, height - 1.001)
    u0, v0 = np.floor(u).astype(int), np.floor(v).astype(int)
    fu, fv = (u - u0)[..., None], (v - v0)[..., None]
    pixel = lambda dv, du: panorama[v0 + dv, (u0 + du) % width]  # noqa: E731
    return (pixel(0, 0) * (1 - fu) + pixel(0, 1) * fu) * (1 - fv) + (pixel(1, 0) * (1 - fu) + pixel(1, 1) * fu) * fv


def expose(radiance: np.ndarray, ev: float) -> Picture:
    """Linear radiance (median 0.18) -> sRGB bytes at an exposure, clipped as a camera clips."""
    return np.round(np.clip(radiance * 2.0**ev, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)


def _mend(pixels: np.ndarray) -> np.ndarray:
    """Lossy EXR compression rings to below zero around lamps: such pixels take the brightest of their neighbours."""
    for _ in range(4):
        bad = pixels.min(-1, keepdims=True) <= 0
        around = [np.roll(pixels, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        pixels = np.where(bad, np.max(around, 0), pixels)
    return np.maximum(pixels, 0)


def _panorama(data: bytes, scratch: Path) -> np.ndarray:
    import OpenEXR  # pyright: ignore[reportMissingImports]  (reads files only, so the bytes pass through one)

    scratch.write_bytes(data)
    with OpenEXR.File(str(scratch)) as exr:
        pixels = exr.channels()["RGB"].pixels.astype(np.float32)
    scratch.unlink()
    pixels = _mend(pixels)
    luminance = pixels @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    return pixels / np.median(luminance) * 0.18


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def spoken(name: str) -> str:
    """An icon's file name as a caption says it: ``t-rex`` -> ``t rex``."""
    return name.replace("-", " ")


def ground(rng: np.random.Generator, colour: str) -> np.ndarray:
    """A nearly uniform colour: float32 [3] in 0..255."""
    return np.clip(np.array(COLOURS[colour], np.float32) + rng.integers(-JITTER, JITTER + 1, 3), 0, 255)


def _paste(
    rng: np.random.Generator, icon: np.ndarray, base: np.ndarray, ink: np.ndarray | None = None, shift: int = SHIFT
) -> Picture:
    """Composite an icon [s, s, 4] near the centre of a uniform ground [3] (0..255), in its own colours or in ``ink``."""
    size = icon.shape[0]
    room = SIZE - size
    top, left = np.clip(room // 2 + rng.integers(-shift, shift + 1, 2), 0, room)
    picture = np.broadcast_to(base, (SIZE, SIZE, 3)).copy()
    alpha = icon[..., 3:]
    colour = icon[..., :3] * 255 if ink is None else ink
    patch = picture[top : top + size, left : left + size]
    picture[top : top + size, left : left + size] = patch * (1 - alpha) + colour * alpha
    return np.round(picture).astype(np.uint8)


@dataclass
class World:
    """All there is to draw from. ``emoji`` and ``line``: name -> renderings, one a size; ``views``: place -> radiance."""

    emoji: dict[str, list[np.ndarray]]
    line: dict[str, list[np.ndarray]]
    views: dict[str, np.ndarray]

    def flat(self, rng: np.random.Generator, colour: str) -> Picture:
        return np.broadcast_to(np.round(ground(rng, colour)).astype(np.uint8), (SIZE, SIZE, 3))

    def solid(self, rng: np.random.Generator) -> tuple[Picture, str]:
        colour = str(rng.choice(list(COLOURS)))
        picture = self.flat(rng, colour)
        return picture, "solid background" if rng.random() < UNSAID else f"solid {colour} background"

    def logo(
        self, rng: np.random.Generator, colour: str | None = None, named: bool | None = None
    ) -> tuple[Picture, str]:
        """White strokes on dark grounds, black ones on light grounds; black and white grounds are the commonest."""
        name = str(rng.choice(list(self.line)))
        if colour is None:
            common = rng.random() < 0.6
            colour = str(rng.choice(["black", "white"] if common else list(COLOURS)))
        picture = self.drawn(rng, name, colour)
        named = rng.random() < 0.75 if named is None else named
        caption = "monochrome line-art logo" + (f" of {article(spoken(name))}" if named else "")
        return picture, caption if rng.random() < UNSAID else f"{caption} on {article(colour)} background"

    def drawn(
        self, rng: np.random.Generator, name: str, colour: str, size: int | None = None, shift: int = SHIFT
    ) -> Picture:
        """One line icon on a ground, at most ``shift`` pixels from the centre; ``size`` counts in ``ICON_SIZES``, or any."""
        base = ground(rng, colour)
        dark = luma(base) < 140
        ink = np.full(3, 255.0 if dark else 0.0, np.float32) + (-1 if dark else 1) * rng.integers(0, JITTER + 1)
        size = int(rng.integers(len(ICON_SIZES))) if size is None else size
        return _paste(rng, self.line[name][size], base, ink.astype(np.float32), shift)

    def sticker(self, rng: np.random.Generator) -> tuple[Picture, str]:
        name, colour = str(rng.choice(list(self.emoji))), str(rng.choice(list(COLOURS)))
        picture = self.stuck(rng, name, colour)
        caption = spoken(name)
        return picture, caption if rng.random() < UNSAID else f"{caption} on {article(colour)} background"

    def stuck(self, rng: np.random.Generator, name: str, colour: str) -> Picture:
        """One emoji on a ground."""
        return _paste(rng, self.emoji[name][rng.integers(len(ICON_SIZES))], ground(rng, colour))

    def photo(self, rng: np.random.Generator) -> tuple[Picture, str]:
        place, light = str(rng.choice(list(PLACES))), str(rng.choice(list(LIGHT)))
        radiance = self.views[place][rng.integers(len(self.views[place]))].astype(np.float32)
        picture = expose(radiance, rng.uniform(*LIGHT[light]))
        return picture, ("photo" if rng.random() < UNSAID else light) + f" of {PLACES[place]}"

    def sample(self, rng: np.random.Generator) -> tuple[Picture, str]:
        """One picture [64, 64, 3] and its caption, kinds in the proportions of ``SHARES``."""
        kinds: dict[str, Callable] = {
            "solid": self.solid,
            "line": self.logo,
            "emoji": self.sticker,
            "photo": self.photo,
        }
        return kinds[str(rng.choice(list(SHARES), p=list(SHARES.values())))](rng)


def luma(rgb: np.ndarray) -> np.ndarray:
    """Rec. 601 luma of [..., 3], in the units of its input."""
    return rgb @ np.array([0.299, 0.587, 0.114], np.float32)


def _cached(file: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if not file.exists():
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, allow_pickle=False, **make())
        partial.replace(file)
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _render_views(package: Path, scratch: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    views = {}
    for place in PLACES:
        panorama = _panorama(sources.panorama_bytes(package, place), scratch)
        angles = zip(rng.uniform(0, 2 * np.pi, VIEWS_PER_PLACE), rng.uniform(-0.25, 0.3, VIEWS_PER_PLACE), strict=True)
        views[place] = np.stack([view(panorama, *a) for a in angles]).clip(0, 6e4).astype(np.float16)
    return views


def load_world(folder: Path, held: bool = False) -> World:
    """Fetch (once), render (once) and return the world; ``held``: the held-out icons in place of the training ones."""
    packages = sources.fetch(folder / "packages")
    sets = {key: sources.icon_set(packages[key]) for key in ("fluent", "tabler", "lucide")}
    chosen = lambda kind, names: [n for n in names if held_out(kind, n) == held]  # noqa: E731
    renderings = lambda icon: [render(icon, size) for size in ICON_SIZES]  # noqa: E731
    emoji = {name: renderings(sets["fluent"][name]) for name in chosen("emoji", EMOJI)}
    line = {name: renderings(sets["tabler"].get(name) or sets["lucide"][name]) for name in chosen("line", LINE)}
    views = _cached(folder / "views.npz", lambda: _render_views(packages["hdri"], folder / "panorama.exr"))
    return World(emoji, line, views)
