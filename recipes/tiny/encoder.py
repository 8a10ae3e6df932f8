"""Stage 8: a joint encoder of pictures and captions, a small CLIPModel, so that the embedded models have a text score.

It is trained contrastively, as CLIP (Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision", ICML 2021, arXiv 2103.00020), with two changes for a small world:

- Captions repeat, and some leave open what others state. So all captions of the batch that are true of a picture are its
  targets, and captions that may be true of it are left out of the loss.
- A batch seldom has one subject on two backgrounds by chance, and the score must distinguish them. So every caption is also
  offered with another background or light.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, log_softmax, normalize, pad
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer

from singdiffusion.compat import clip_image_processor, transformers_dtype

from . import text
from .pictures import SIZE, Picture, World, article, in_words, load_world
from .training import Budget, Stage
from .vocabulary import COLORS, LIGHT

BATCH = 256
RATE = 1e-3
LEFT_OUT = -1e4  # logit of a pair that is left out of the loss
# Limits of the augmentation. Brightness and colour stay, because the score depends on them.
SHIFT = 4  # pixels
NOISE = 0.06  # standard deviation, where black to white is 2
BLUR = 0.8  # share of the mean of 3 x 3 pixels
LOGO = "monochrome line-art logo"


def network(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return an untrained encoder.

    Pictures: patches of 8 x 8 pixels, four layers of width 160. Captions: two layers of width 128. Common space: 96.
    """
    torch.manual_seed(12)
    return CLIPModel(
        CLIPConfig(
            text_config={
                "vocab_size": len(tokenizer),
                "hidden_size": text.WIDTH,
                "intermediate_size": 4 * text.WIDTH,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "max_position_embeddings": text.LENGTH,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
            },
            vision_config={
                "hidden_size": 160,
                "intermediate_size": 640,
                "num_hidden_layers": 4,
                "num_attention_heads": 5,
                "image_size": SIZE,
                "patch_size": 8,
            },
            projection_dim=96,
        )
    )


# -- captions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Content:
    """The content of a caption.

    Attributes:
        subject: an icon, "solid", or "photo of PLACE".
        background: colour of the background, or light of a photo; None where the caption leaves it open.
    """

    subject: str
    background: str | None

    @classmethod
    def parse(cls, caption: str) -> "Content":
        """Read one of the world's captions."""
        if found := re.fullmatch(r"solid (?:(.+) )?background", caption):
            return cls("solid", found[1])
        if found := re.fullmatch(r"((?:an? (?:[a-z]+ )*)?photo) of (.+)", caption):
            return cls(f"photo of {found[2]}", found[1] if found[1] in LIGHT else None)
        subject, _, rest = caption.partition(" on ")
        background = re.fullmatch(r"an? (.+) background", rest)
        return cls(subject, background[1] if background else None)

    @property
    def choices(self) -> Sequence[str]:
        """All backgrounds that the subject may have, or lights that a photo may have."""
        return list(LIGHT if self.subject.startswith("photo of ") else COLORS)

    def caption(self, background: str) -> str:
        """Return the caption of this subject with that background or light."""
        if self.subject == "solid":
            return f"solid {background} background"
        if self.subject.startswith("photo of "):
            return background + self.subject.removeprefix("photo")
        return f"{self.subject} on {article(background)} background"


def other_background(caption: str, rng: np.random.Generator) -> str:
    """Return the caption with another background or light."""
    content = Content.parse(caption)
    return content.caption(str(rng.choice([choice for choice in content.choices if choice != content.background])))


def relation(pictures: Sequence[str], captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return which captions are true of which pictures, and for which that is unknown.

    "red apple" is true of a picture captioned "red apple on a black background". "red apple on a black background" may be
    true of a picture captioned "red apple", which leaves its background open: that is unknown.

    Args:
        pictures: N captions, one of each picture.
        captions: M captions to compare with.

    Returns:
        ``true`` and ``unknown``, bool [N, M]; no pair is both.
    """
    rows, columns = [Content.parse(c) for c in pictures], [Content.parse(c) for c in captions]
    subjects = {content.subject: i for i, content in enumerate(rows + columns)}
    backgrounds = {content.background: i for i, content in enumerate(rows + columns) if content.background is not None}
    subject, background, logo = (
        lambda of, key=key: torch.tensor([key(content) for content in of])
        for key in (
            lambda content: subjects[content.subject],
            lambda content: backgrounds.get(content.background, -1),
            lambda content: content.subject.startswith(LOGO),
        )
    )
    unnamed = subjects.get(LOGO, -1)  # a logo whose caption does not name the icon
    same = subject(rows)[:, None] == subject(columns)[None]
    logos = logo(rows)[:, None] & logo(columns)[None]
    subject_true = same | (logos & (subject(columns) == unnamed)[None])
    subject_open = logos & ~subject_true & (subject(rows) == unnamed)[:, None]
    background_true = (background(rows)[:, None] == background(columns)[None]) | (background(columns) == -1)[None]
    background_open = ~background_true & (background(rows) == -1)[:, None]
    true = subject_true & background_true
    return true, (subject_true | subject_open) & (background_true | background_open) & ~true


# -- training ---------------------------------------------------------------------------------------------------------


def augment(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift (edges are repeated), blur and add noise to pictures [B, 3, 64, 64] in -1..1; their brightness stays."""
    corners = rng.integers(0, 2 * SHIFT + 1, (len(x), 2))
    padded = pad(x, (SHIFT,) * 4, mode="replicate")
    x = torch.stack([p[:, i : i + SIZE, j : j + SIZE] for p, (i, j) in zip(padded, corners, strict=True)])
    amount = lambda most: torch.from_numpy(rng.uniform(0, most, (len(x), 1, 1, 1))).to(x)  # noqa: E731
    x = x.lerp(avg_pool2d(pad(x, (1,) * 4, mode="replicate"), 3, 1), amount(BLUR))
    return x + amount(NOISE) * torch.from_numpy(rng.standard_normal(x.shape, np.float32)).to(x)


def contrast(logits: Tensor, true: Tensor, unknown: Tensor) -> Tensor:
    """Return the cross-entropy of rows of logits [N, M] with the uniform distribution over what is true, mean over rows.

    Pairs that are unknown and rows without a true pair are left out.
    """
    kept = true.any(1)
    target = true[kept].float() / true[kept].sum(1, keepdim=True)
    return -(target * log_softmax(logits.masked_fill(unknown, LEFT_OUT)[kept], 1)).sum(1).mean()


def batch(world: World, seed: tuple[int, ...], count: int) -> tuple[Tensor, list[str], list[str]]:
    """Return new training pictures with their captions, and captions to choose from.

    Returns:
        Pictures [B, 3, 64, 64] in -1..1, augmented; their captions; and these captions once each together with the same
        subjects on other backgrounds.
    """
    rng = np.random.default_rng(seed)
    drawn = [world.sample(rng) for _ in range(count)]
    x = torch.from_numpy(np.stack([picture for picture, _ in drawn])).permute(0, 3, 1, 2).float() / 127.5 - 1
    own = [caption for _, caption in drawn]
    offered = sorted({*own, *(other_background(caption, rng) for caption in own)})
    return augment(x, rng), own, offered


def train(folder: Path, budget: Budget) -> None:
    """Train the encoder; every batch has new pictures. Writes ``encoder/`` in transformers' layout.

    Training starts from ``encoder/`` where it exists without a checkpoint, as in a folder that ``adopt`` made.
    """
    tokenizer = _tokenizer(folder)
    world = load_world(folder)
    adopted = (folder / "encoder").exists() and not (folder / "encoder.ckpt").exists()
    stage = Stage("encoder", folder, {"encoder": load(folder / "encoder") if adopted else network(tokenizer)}, RATE)
    encoder, where = stage.networks["encoder"], stage.device

    def loss_at(step: int) -> dict[str, Tensor]:
        x, own, offered = batch(world, (13, step), BATCH)
        tokens = tokenizer(offered, padding=True, truncation=True, max_length=text.LENGTH, return_tensors="pt")
        out = encoder(input_ids=tokens.input_ids.to(where), pixel_values=x.to(where))
        true, unknown = (r.to(where) for r in relation(own, offered))
        with torch.autocast(where.type, enabled=False):  # cosines times a hundred need float32
            logits = encoder.logit_scale.exp().clamp(max=100) * out.image_embeds.float() @ out.text_embeds.float().T
            pictures, captions = contrast(logits, true, unknown), contrast(logits.T, true.T, unknown.T)
        right = true.gather(1, logits.detach().masked_fill(unknown, LEFT_OUT).argmax(1, keepdim=True)).float().mean()
        return {"loss": (pictures + captions) / 2, "wrong": 1 - right}

    stage.run(budget, loss_at)
    stage.averaged()["encoder"].save_pretrained(folder / "encoder")


def _tokenizer(folder: Path) -> CLIPTokenizer:
    if not (folder / "tokenizer").exists():
        raise SystemExit(f"error: no tokenizer in {folder}; run the stage `base` first")
    return CLIPTokenizer.from_pretrained(folder / "tokenizer")


def load(folder: Path) -> CLIPModel:
    """Return a trained encoder, in float32."""
    if not folder.exists():
        raise SystemExit(f"error: no trained encoder in {folder}; run the stage `encoder` first")
    return CLIPModel.from_pretrained(folder, **transformers_dtype(torch.float32))


def processor(folder: Path) -> CLIPProcessor:
    """Return a processor: this folder's tokenizer, and pictures resized to 64 x 64 (bicubic) in -1..1."""
    side = {"height": SIZE, "width": SIZE}
    levels = clip_image_processor()(
        size=side, crop_size=side, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return CLIPProcessor(levels, _tokenizer(folder))


# -- figures ----------------------------------------------------------------------------------------------------------

GALLERY = 1000
Captioned = list[tuple[Picture, str]]


def gallery(world: World, rng: np.random.Generator, count: int = GALLERY) -> Captioned:
    """Draw new pictures of every kind, all with different captions that name both subject and background."""
    found: dict[str, Picture] = {}
    while len(found) < count:
        picture, caption = world.sample(rng)
        content = Content.parse(caption)
        if content.background is not None and content.subject != LOGO:
            found.setdefault(caption, picture)
    return [(picture, caption) for caption, picture in found.items()]


def cases(world: World, rng: np.random.Generator, emoji: int, line: int) -> Captioned:
    """Draw the first icons of each kind, by name, each on every background.

    Args:
        world: what to draw from.
        rng: draws the place, size and shade.
        emoji: number of emoji.
        line: number of line icons.
    """
    made = []
    for color in COLORS:
        for name in sorted(world.emoji)[:emoji]:
            made.append((world.draw_sticker(rng, name, color), Content(in_words(name), None).caption(color)))
        for name in sorted(world.line)[:line]:
            subject = f"{LOGO} of {article(in_words(name))}"
            made.append((world.draw_logo(rng, name, color), Content(subject, None).caption(color)))
    return made


class Scorer:
    """Embeddings of pictures and captions, by an exported folder."""

    def __init__(self, folder: Path):
        self.model = CLIPModel.from_pretrained(folder).eval()
        self.processor = CLIPProcessor.from_pretrained(folder)

    @torch.no_grad()
    def pictures(self, pictures: Sequence[Picture]) -> Tensor:
        """Return embeddings [N, D] of length one."""
        x = self.processor.image_processor([Image.fromarray(p) for p in pictures], return_tensors="pt").pixel_values
        parts = [self.model.visual_projection(self.model.vision_model(part).pooler_output) for part in x.split(250)]
        return normalize(torch.cat(parts), dim=-1)

    @torch.no_grad()
    def captions(self, captions: Sequence[str]) -> Tensor:
        """Return embeddings [N, D] of length one."""
        ids = text.ids(self.processor.tokenizer, list(captions))
        parts = [self.model.text_projection(self.model.text_model(part).pooler_output) for part in ids.split(500)]
        return normalize(torch.cat(parts), dim=-1)


def _top(cosines: Tensor, within: int) -> float:
    """Return the share of rows whose diagonal value is among the ``within`` highest of its row."""
    rank = (cosines > cosines.diagonal()[:, None]).sum(1)
    return round(float((rank < within).float().mean()), 4)


def retrieval(scorer: Scorer, shown: Captioned) -> dict[str, float]:
    """Return how often a caption finds its picture among all, and a picture its caption: top-1, top-5, and by chance."""
    cosines = scorer.captions([c for _, c in shown]) @ scorer.pictures([p for p, _ in shown]).T
    found = {"text_to_picture": cosines, "picture_to_text": cosines.T}
    tops = {f"{way}_top{n}": _top(each, n) for way, each in found.items() for n in (1, 5)}
    return {
        "count": len(shown),
        **tops,
        "chance_top1": round(1 / len(shown), 4),
        "chance_top5": round(5 / len(shown), 4),
    }


def choice(scorer: Scorer, shown: Captioned, options: Callable[[Content], Sequence[str]]) -> dict[str, float]:
    """Return how often a picture's own caption has the highest cosine among its options, and how often by chance."""
    embedded = scorer.pictures([p for p, _ in shown])
    right, chance = [], []
    for row, (_, caption) in zip(embedded, shown, strict=True):
        offered = options(Content.parse(caption))
        right.append(offered[int((scorer.captions(offered) @ row).argmax())] == caption)
        chance.append(1 / len(offered))
    return {"count": len(shown), "right": round(float(np.mean(right)), 4), "chance": round(float(np.mean(chance)), 4)}


def every_background(content: Content) -> Sequence[str]:
    """Return the captions of a subject with each background or light."""
    return [content.caption(background) for background in content.choices]


def every_subject(shown: Captioned) -> Callable[[Content], Sequence[str]]:
    """Return a function of a content: the captions of each subject of ``shown`` with its background."""
    subjects = [Content.parse(caption) for _, caption in shown]
    return lambda content: sorted({subject.caption(content.background or "") for subject in subjects})


def decoded(vae: AutoencoderKL, shown: Captioned) -> Captioned:
    """Encode and decode the pictures, which makes them as soft as painted ones."""
    x = torch.from_numpy(np.stack([p for p, _ in shown])).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        y = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in x.split(100)])
    levels = y.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [(picture, caption) for picture, (_, caption) in zip(levels, shown, strict=True)]


def figures(folder: Path, world: World, unseen: World, vae: AutoencoderKL) -> dict[str, dict[str, dict[str, float]]]:
    """Measure the encoder of an exported folder on new pictures, of icons from its training and of held-out icons.

    Args:
        folder: the encoder.
        world: with the icons of its training.
        unseen: with the held-out icons.
        vae: the base's autoencoder.
    """
    scorer, rng = Scorer(folder), np.random.default_rng(14)
    shown = gallery(world, rng)
    icons = len(unseen.emoji), len(unseen.line)
    known, new = cases(world, rng, *icons), cases(unseen, rng, *icons)
    photos = [
        pair for pair in (world.photo(rng) for _ in range(GALLERY)) if Content.parse(pair[1]).background is not None
    ]
    return {
        "retrieval": {
            "known": retrieval(scorer, shown),
            "known, through the autoencoder": retrieval(scorer, decoded(vae, shown)),
            f"{sum(icons)} known icons": retrieval(scorer, known),
            f"{sum(icons)} held-out icons": retrieval(scorer, new),
        },
        "choice": {
            "background, known icons": choice(scorer, known, every_background),
            "background, held-out icons": choice(scorer, new, every_background),
            "light of photos": choice(scorer, photos, every_background),
            "subject, known icons": choice(scorer, known, every_subject(known)),
            "subject, held-out icons": choice(scorer, new, every_subject(new)),
        },
    }
