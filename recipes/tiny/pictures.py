"""Pictures of the embedded world with their captions: plain backgrounds, line-art logos, emoji, photos.

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
from .vocabulary import COLORS, EMOJI, LIGHT, LINE, OPEN_SHARE, PLACES, SHARES

SIZE = 64
ICON_SIZES = (46, 50, 54)
SHIFT = 3  # pixels by which an icon may be off the centre
JITTER = 6  # levels of 255 by which a background may differ from its colour, per channel
HELD_OUT = 0.05  # share of the icons that are kept from training
PER_SEED = 250  # training pictures drawn from one generator
VIEWS_PER_PLACE = 160
FIELD_OF_VIEW = 75.0  # degrees
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601

Picture = np.ndarray  # uint8 [64, 64, 3]


def held_out(kind: str, name: str) -> bool:
    """Return whether an icon is kept from training: a fixed choice of one in twenty, by a hash of its name."""
    digest = hashlib.sha256(f"{kind}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < HELD_OUT


def luma(rgb: np.ndarray) -> np.ndarray:
    """Return Rec. 601 luma of [..., 3], in the units of its input."""
    return rgb @ LUMA


# -- words ------------------------------------------------------------------------------------------------------------


def article(noun: str) -> str:
    """Return the noun with its article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def in_words(name: str) -> str:
    """Return an icon's name as captions write it: ``t-rex`` -> ``t rex``."""
    return name.replace("-", " ")


# -- icons ------------------------------------------------------------------------------------------------------------


def _svg(icon: tuple[str, int, int], color: str) -> str:
    body, width, height = icon
    side = max(width, height)  # a square view box with the icon in its middle
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{(width - side) / 2} {(height - side) / 2} {side} {side}" color="{color}">{body.replace("currentColor", color)}</svg>'
    )


def render(icon: tuple[str, int, int], size: int, color: str = "#000") -> np.ndarray:
    """Rasterise an icon: float32 [size, size, 4] in 0..1, colours not multiplied by alpha."""
    import resvg_py  # pyright: ignore[reportMissingImports]  (extra `recipes`)

    png = resvg_py.svg_to_bytes(svg_string=_svg(icon, color), width=size, height=size)
    with Image.open(io.BytesIO(bytes(png))) as image:
        return np.asarray(image.convert("RGBA"), np.float32) / 255


def background(rng: np.random.Generator, color: str) -> np.ndarray:
    """Return a colour close to the named one: float32 [3] in 0..255."""
    return np.clip(np.array(COLORS[color], np.float32) + rng.integers(-JITTER, JITTER + 1, 3), 0, 255)


def _paste(
    rng: np.random.Generator, icon: np.ndarray, base: np.ndarray, ink: np.ndarray | None = None, shift: int = SHIFT
) -> Picture:
    """Composite an icon [s, s, 4] near the centre of a plain background.

    Args:
        rng: draws where the icon is.
        icon: in 0..1.
        base: colour of the background, [3] in 0..255.
        ink: colour of the icon, [3] in 0..255; by default its own colours.
        shift: most pixels off the centre.
    """
    size = icon.shape[0]
    room = SIZE - size
    top, left = np.clip(room // 2 + rng.integers(-shift, shift + 1, 2), 0, room)
    picture = np.broadcast_to(base, (SIZE, SIZE, 3)).copy()
    alpha = icon[..., 3:]
    color = icon[..., :3] * 255 if ink is None else ink
    patch = picture[top : top + size, left : left + size]
    picture[top : top + size, left : left + size] = patch * (1 - alpha) + color * alpha
    return np.round(picture).astype(np.uint8)


# -- photos -----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _directions() -> np.ndarray:
    """Return the rays of a pinhole camera that looks along +z: [SIZE, SIZE, 3]."""
    half = np.tan(np.radians(FIELD_OF_VIEW / 2))
    axis = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    x, y = np.meshgrid(axis * half, -axis * half)
    rays = np.stack([x, y, np.ones_like(x)], -1)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def view(panorama: np.ndarray, yaw: float, pitch: float) -> np.ndarray:
    """Return a perspective view [SIZE, SIZE, 3] of an equirectangular panorama [H, W, 3], bilinear; angles in radians."""
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
    """Turn linear radiance (median 0.18) into sRGB bytes at an exposure in EV, clipped as in a camera."""
    return np.round(np.clip(radiance * 2.0**ev, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)


def _without_ringing(pixels: np.ndarray) -> np.ndarray:
    """Replace pixels that are not positive, which lossy EXR compression makes around lamps, by their brightest neighbour."""
    for _ in range(4):
        bad = pixels.min(-1, keepdims=True) <= 0
        around = [np.roll(pixels, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        pixels = np.where(bad, np.max(around, 0), pixels)
    return np.maximum(pixels, 0)


def _panorama(data: bytes, scratch: Path) -> np.ndarray:
    import OpenEXR  # pyright: ignore[reportMissingImports]  (extra `recipes`)

    scratch.write_bytes(data)  # OpenEXR reads files only
    with OpenEXR.File(str(scratch)) as exr:
        pixels = exr.channels()["RGB"].pixels.astype(np.float32)
    scratch.unlink()
    pixels = _without_ringing(pixels)
    luminance = pixels @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    return pixels / np.median(luminance) * 0.18


# -- the world --------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """Everything that pictures are drawn from.

    ``draw_...`` return a picture of what their arguments name. ``solid``, ``logo``, ``sticker``, ``photo`` and ``sample``
    also choose that at random, and return the picture with its caption.

    Attributes:
        emoji: name -> renderings of an icon, one per size in ``ICON_SIZES``.
        line: likewise, of line icons.
        views: place -> linear radiance, float16 [N, 64, 64, 3].
    """

    emoji: dict[str, list[np.ndarray]]
    line: dict[str, list[np.ndarray]]
    views: dict[str, np.ndarray]

    def draw_solid(self, rng: np.random.Generator, color: str) -> Picture:
        """Draw a plain background."""
        return np.broadcast_to(np.round(background(rng, color)).astype(np.uint8), (SIZE, SIZE, 3))

    def solid(self, rng: np.random.Generator) -> tuple[Picture, str]:
        """Draw a plain background of any colour."""
        color = str(rng.choice(list(COLORS)))
        picture = self.draw_solid(rng, color)
        return picture, "solid background" if rng.random() < OPEN_SHARE else f"solid {color} background"

    def draw_logo(
        self, rng: np.random.Generator, name: str, color: str, size: int | None = None, shift: int = SHIFT
    ) -> Picture:
        """Draw a line icon on a background: white strokes on a dark one, black strokes on a light one.

        Args:
            rng: draws the shade, the place and, by default, the size.
            name: of the icon.
            color: of the background.
            size: index into ``ICON_SIZES``.
            shift: most pixels off the centre.
        """
        base = background(rng, color)
        dark = luma(base) < 140
        ink = np.full(3, 255.0 if dark else 0.0, np.float32) + (-1 if dark else 1) * rng.integers(0, JITTER + 1)
        size = int(rng.integers(len(ICON_SIZES))) if size is None else size
        return _paste(rng, self.line[name][size], base, ink.astype(np.float32), shift)

    def logo(
        self, rng: np.random.Generator, color: str | None = None, named: bool | None = None
    ) -> tuple[Picture, str]:
        """Draw a line icon; three in five have a black or white background, the others one of any colour.

        Args:
            rng: draws what the arguments leave open.
            color: of the background.
            named: whether the caption names the icon.
        """
        name = str(rng.choice(list(self.line)))
        if color is None:
            common = rng.random() < 0.6
            color = str(rng.choice(["black", "white"] if common else list(COLORS)))
        picture = self.draw_logo(rng, name, color)
        named = rng.random() < 0.75 if named is None else named
        caption = "monochrome line-art logo" + (f" of {article(in_words(name))}" if named else "")
        return picture, caption if rng.random() < OPEN_SHARE else f"{caption} on {article(color)} background"

    def draw_sticker(self, rng: np.random.Generator, name: str, color: str) -> Picture:
        """Draw an emoji on a background."""
        return _paste(rng, self.emoji[name][rng.integers(len(ICON_SIZES))], background(rng, color))

    def sticker(self, rng: np.random.Generator) -> tuple[Picture, str]:
        """Draw any emoji on a background of any colour."""
        name, color = str(rng.choice(list(self.emoji))), str(rng.choice(list(COLORS)))
        picture = self.draw_sticker(rng, name, color)
        caption = in_words(name)
        return picture, caption if rng.random() < OPEN_SHARE else f"{caption} on {article(color)} background"

    def draw_photo(self, rng: np.random.Generator, place: str, light: str) -> Picture:
        """Draw a view of a place at an exposure of this light."""
        radiance = self.views[place][rng.integers(len(self.views[place]))].astype(np.float32)
        return expose(radiance, rng.uniform(*LIGHT[light]))

    def photo(self, rng: np.random.Generator) -> tuple[Picture, str]:
        """Draw a view of any place in any light."""
        place, light = str(rng.choice(list(PLACES))), str(rng.choice(list(LIGHT)))
        picture = self.draw_photo(rng, place, light)
        return picture, ("photo" if rng.random() < OPEN_SHARE else light) + f" of {PLACES[place]}"

    def sample(self, rng: np.random.Generator) -> tuple[Picture, str]:
        """Draw a picture [64, 64, 3] of any kind, in the proportions of ``SHARES``."""
        kinds: dict[str, Callable] = {
            "solid": self.solid,
            "line": self.logo,
            "emoji": self.sticker,
            "photo": self.photo,
        }
        return kinds[str(rng.choice(list(SHARES), p=list(SHARES.values())))](rng)


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


def load_world(folder: Path, unseen: bool = False) -> World:
    """Return the world; packages are fetched and views rendered once.

    Args:
        folder: the working folder, which holds both.
        unseen: with the held-out icons in place of those for training.
    """
    packages = sources.fetch(folder / "packages")
    sets = {key: sources.icon_set(packages[key]) for key in ("fluent", "tabler", "lucide")}
    chosen = lambda kind, names: [n for n in names if held_out(kind, n) == unseen]  # noqa: E731
    renderings = lambda icon: [render(icon, size) for size in ICON_SIZES]  # noqa: E731
    emoji = {name: renderings(sets["fluent"][name]) for name in chosen("emoji", EMOJI)}
    line = {name: renderings(sets["tabler"].get(name) or sets["lucide"][name]) for name in chosen("line", LINE)}
    views = _cached(folder / "views.npz", lambda: _render_views(packages["hdri"], folder / "panorama.exr"))
    return World(emoji, line, views)
