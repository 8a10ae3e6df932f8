"""Stage 8: a joint encoder of pictures and captions, a small CLIPModel, so that the embedded world has a score of its own.

Contrastive training as CLIP's (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021) with
two changes that a small world asks for. Captions repeat, and some leave open what others say, so a picture's targets are all the captions
of the batch that are true of it, and those that may be are left out. And every caption is also offered with another ground or light, for
chance seldom puts one subject on two grounds into a batch, and the score shall tell them apart.
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
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

from . import text
from .pictures import SIZE, Picture, World, article, load_world, spoken
from .training import Budget, Stage
from .vocabulary import COLOURS, LIGHT

BATCH = 256
RATE = 1e-3
LIKELY = -1e4  # logit of a pair that is left out
ROOM = 4  # a picture is shifted by up to this many pixels,
NOISE = 0.06  # gets noise of up to this standard deviation (of 2, black to white),
BLUR = 0.8  # and up to this much of its 3 x 3 means. Brightness and colour stay: the score shall see them.
LOGO = "monochrome line-art logo"


def network(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Patches of 8 x 8 pixels, four layers of width 160; the text's two of 128; a common space of 96."""
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


# -- what captions say ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What a caption says: a subject, and its ground or light, None where it is left open."""

    subject: str
    ground: str | None

    @classmethod
    def by(cls, caption: str) -> "Told":
        """Read one of the world's captions."""
        if found := re.fullmatch(r"solid (?:(.+) )?background", caption):
            return cls("solid", found[1])
        if found := re.fullmatch(r"((?:an? (?:[a-z]+ )*)?photo) of (.+)", caption):
            return cls(f"photo of {found[2]}", found[1] if found[1] in LIGHT else None)
        subject, _, rest = caption.partition(" on ")
        ground = re.fullmatch(r"an? (.+) background", rest)
        return cls(subject, ground[1] if ground else None)

    @property
    def grounds(self) -> Sequence[str]:
        """What might stand in the place of the ground."""
        return list(LIGHT if self.subject.startswith("photo of ") else COLOURS)

    def on(self, ground: str) -> str:
        """The caption of this subject on that ground, or in that light."""
        if self.subject == "solid":
            return f"solid {ground} background"
        if self.subject.startswith("photo of "):
            return ground + self.subject.removeprefix("photo")
        return f"{self.subject} on {article(ground)} background"


def other_ground(caption: str, rng: np.random.Generator) -> str:
    """The caption with a ground or light that it does not say."""
    told = Told.by(caption)
    return told.on(str(rng.choice([ground for ground in told.grounds if ground != told.ground])))


def relation(pictures: Sequence[str], captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """What pictures, known by their own captions, have to do with captions: bool [N, M] twice, ``true`` and ``unknown``.

    "red apple" is true of a red apple on a black background; "red apple on a black background" may be true of a red apple.
    """
    rows, columns = [Told.by(c) for c in pictures], [Told.by(c) for c in captions]
    subjects = {told.subject: i for i, told in enumerate(rows + columns)}
    grounds = {told.ground: i for i, told in enumerate(rows + columns) if told.ground is not None}
    subject, ground, logo = (
        lambda of, key=key: torch.tensor([key(told) for told in of])
        for key in (
            lambda told: subjects[told.subject],
            lambda told: grounds.get(told.ground, -1),
            lambda told: told.subject.startswith(LOGO),
        )
    )
    plain = subjects.get(LOGO, -1)
    same = subject(rows)[:, None] == subject(columns)[None]
    logos = logo(rows)[:, None] & logo(columns)[None]
    subject_true = same | (logos & (subject(columns) == plain)[None])
    subject_open = logos & ~subject_true & (subject(rows) == plain)[:, None]
    ground_true = (ground(rows)[:, None] == ground(columns)[None]) | (ground(columns) == -1)[None]
    ground_open = ~ground_true & (ground(rows) == -1)[:, None]
    true = subject_true & ground_true
    return true, (subject_true | subject_open) & (ground_true | ground_open) & ~true


# -- training ---------------------------------------------------------------------------------------------------------


def augment(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Pictures [B, 3, 64, 64] in -1..1, shifted (edges repeated), blurred and noisy as painted ones are, their brightness kept."""
    corners = rng.integers(0, 2 * ROOM + 1, (len(x), 2))
    padded = pad(x, (ROOM,) * 4, mode="replicate")
    x = torch.stack([p[:, i : i + SIZE, j : j + SIZE] for p, (i, j) in zip(padded, corners, strict=True)])
    amount = lambda most: torch.from_numpy(rng.uniform(0, most, (len(x), 1, 1, 1))).to(x)  # noqa: E731
    x = x.lerp(avg_pool2d(pad(x, (1,) * 4, mode="replicate"), 3, 1), amount(BLUR))
    return x + amount(NOISE) * torch.from_numpy(rng.standard_normal(x.shape, np.float32)).to(x)


def contrast(logits: Tensor, true: Tensor, unknown: Tensor) -> Tensor:
    """Cross-entropy of each row of logits [N, M] to the uniform distribution over what is true; rows without any are left out."""
    kept = true.any(1)
    target = true[kept].float() / true[kept].sum(1, keepdim=True)
    return -(target * log_softmax(logits.masked_fill(unknown, LIKELY)[kept], 1)).sum(1).mean()


def batch(world: World, seed: tuple[int, ...], count: int) -> tuple[Tensor, list[str], list[str]]:
    """Pictures [B, 3, 64, 64] in -1..1, their captions, and the distinct captions to choose from, those on other grounds among them."""
    rng = np.random.default_rng(seed)
    drawn = [world.sample(rng) for _ in range(count)]
    x = torch.from_numpy(np.stack([picture for picture, _ in drawn])).permute(0, 3, 1, 2).float() / 127.5 - 1
    own = [caption for _, caption in drawn]
    offered = sorted({*own, *(other_ground(caption, rng) for caption in own)})
    return augment(x, rng), own, offered


def train(folder: Path, budget: Budget) -> None:
    """Contrastive training on composites drawn afresh; writes ``encoder/`` in transformers' layout.

    A folder that has it and no checkpoint (``adopt`` made it) is where the training starts from.
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
        with torch.autocast(where.type, enabled=False):  # cosines times a hundred need their digits
            logits = encoder.logit_scale.exp().clamp(max=100) * out.image_embeds.float() @ out.text_embeds.float().T
            pictures, captions = contrast(logits, true, unknown), contrast(logits.T, true.T, unknown.T)
        right = true.gather(1, logits.detach().masked_fill(unknown, LIKELY).argmax(1, keepdim=True)).float().mean()
        return {"loss": (pictures + captions) / 2, "wrong": 1 - right}

    stage.run(budget, loss_at)
    stage.averaged()["encoder"].save_pretrained(folder / "encoder")


def _tokenizer(folder: Path) -> CLIPTokenizer:
    if not (folder / "tokenizer").exists():
        raise SystemExit(f"error: no tokenizer in {folder}; run the stage `base` first")
    return CLIPTokenizer.from_pretrained(folder / "tokenizer")


def load(folder: Path) -> CLIPModel:
    """A trained encoder, in float32."""
    if not folder.exists():
        raise SystemExit(f"error: no trained encoder in {folder}; run the stage `encoder` first")
    return CLIPModel.from_pretrained(folder, dtype=torch.float32)


def processor(folder: Path) -> CLIPProcessor:
    """This folder's tokenizer, and pictures to 64 x 64 (bicubic) in -1..1."""
    side = {"height": SIZE, "width": SIZE}
    levels = CLIPImageProcessorPil(
        size=side, crop_size=side, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return CLIPProcessor(levels, _tokenizer(folder))


# -- figures ----------------------------------------------------------------------------------------------------------

GALLERY = 1000
Captioned = list[tuple[Picture, str]]


def gallery(world: World, rng: np.random.Generator, count: int = GALLERY) -> Captioned:
    """Fresh composites of every kind, no two with one caption, and every caption says what there is and on which ground."""
    found: dict[str, Picture] = {}
    while len(found) < count:
        picture, caption = world.sample(rng)
        told = Told.by(caption)
        if told.ground is not None and told.subject != LOGO:
            found.setdefault(caption, picture)
    return [(picture, caption) for caption, picture in found.items()]


def cases(world: World, rng: np.random.Generator, emoji: int, line: int) -> Captioned:
    """Some icons of each kind, every one on every ground."""
    made = []
    for colour in COLOURS:
        for name in sorted(world.emoji)[:emoji]:
            made.append((world.stuck(rng, name, colour), Told(spoken(name), None).on(colour)))
        for name in sorted(world.line)[:line]:
            made.append((world.drawn(rng, name, colour), Told(f"{LOGO} of {article(spoken(name))}", None).on(colour)))
    return made


class Scorer:
    """Cosines between pictures and captions, by an exported folder."""

    def __init__(self, folder: Path):
        self.model = CLIPModel.from_pretrained(folder).eval()
        self.processor = CLIPProcessor.from_pretrained(folder)

    @torch.no_grad()
    def pictures(self, pictures: Sequence[Picture]) -> Tensor:
        """Embeddings [N, D] of length one."""
        x = self.processor.image_processor([Image.fromarray(p) for p in pictures], return_tensors="pt").pixel_values
        parts = [self.model.visual_projection(self.model.vision_model(part).pooler_output) for part in x.split(250)]
        return normalize(torch.cat(parts), dim=-1)

    @torch.no_grad()
    def captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings [N, D] of length one."""
        ids = text.ids(self.processor.tokenizer, list(captions))
        parts = [self.model.text_projection(self.model.text_model(part).pooler_output) for part in ids.split(500)]
        return normalize(torch.cat(parts), dim=-1)


def _top(cosines: Tensor, within: int) -> float:
    """How often the diagonal is among the highest of its row."""
    rank = (cosines > cosines.diagonal()[:, None]).sum(1)
    return round(float((rank < within).float().mean()), 4)


def retrieval(scorer: Scorer, shown: Captioned) -> dict[str, float]:
    """Each caption's picture found among all, and each picture's caption: top-1, top-5, and what chance would find."""
    cosines = scorer.captions([c for _, c in shown]) @ scorer.pictures([p for p, _ in shown]).T
    found = {"text_to_picture": cosines, "picture_to_text": cosines.T}
    tops = {f"{way}_top{n}": _top(each, n) for way, each in found.items() for n in (1, 5)}
    return {
        "count": len(shown),
        **tops,
        "chance_top1": round(1 / len(shown), 4),
        "chance_top5": round(5 / len(shown), 4),
    }


def choice(scorer: Scorer, shown: Captioned, options: Callable[[Told], Sequence[str]]) -> dict[str, float]:
    """How often the highest cosine among the captions that a picture may have is that of its own."""
    embedded = scorer.pictures([p for p, _ in shown])
    right, chance = [], []
    for row, (_, caption) in zip(embedded, shown, strict=True):
        offered = options(Told.by(caption))
        right.append(offered[int((scorer.captions(offered) @ row).argmax())] == caption)
        chance.append(1 / len(offered))
    return {"count": len(shown), "right": round(float(np.mean(right)), 4), "chance": round(float(np.mean(chance)), 4)}


def grounds(told: Told) -> Sequence[str]:
    return [told.on(ground) for ground in told.grounds]


def decoded(vae: AutoencoderKL, shown: Captioned) -> Captioned:
    """The same pictures through the autoencoder, as soft as painted ones."""
    x = torch.from_numpy(np.stack([p for p, _ in shown])).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        y = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in x.split(100)])
    levels = y.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [(picture, caption) for picture, (_, caption) in zip(levels, shown, strict=True)]


def figures(folder: Path, world: World, held: World, vae: AutoencoderKL) -> dict[str, dict[str, dict[str, float]]]:
    """What the encoder of an exported folder can tell: of composites that it never saw, and of icons that it never saw."""
    scorer, rng = Scorer(folder), np.random.default_rng(14)
    shown = gallery(world, rng)
    icons = len(held.emoji), len(held.line)
    known, new = cases(world, rng, *icons), cases(held, rng, *icons)
    photos = [pair for pair in (world.photo(rng) for _ in range(GALLERY)) if Told.by(pair[1]).ground is not None]
    subjects = lambda of: lambda told: sorted({Told.by(c).on(told.ground) for _, c in of})  # noqa: E731
    return {
        "retrieval": {
            "known": retrieval(scorer, shown),
            "known, through the autoencoder": retrieval(scorer, decoded(vae, shown)),
            f"{sum(icons)} known icons": retrieval(scorer, known),
            f"{sum(icons)} held-out icons": retrieval(scorer, new),
        },
        "choice": {
            "ground, known icons": choice(scorer, known, grounds),
            "ground, held-out icons": choice(scorer, new, grounds),
            "light of photos": choice(scorer, photos, grounds),
            "subject, known icons": choice(scorer, known, subjects(known)),
            "subject, held-out icons": choice(scorer, new, subjects(new)),
        },
    }
