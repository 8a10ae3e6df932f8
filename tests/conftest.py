"""Real, small pipelines with random weights: seconds to build, nothing downloaded."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Networks this small run fastest on one thread, results do not hang on the machine's core count, and tests run side by side: two processes
# of two threads on two cores are slower tenfold. Before torch is imported, and for every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
# a folder without modules, because those of whoever runs the tests do not count
os.environ["SINGDIFFUSION_HOME"] = os.path.join(os.path.dirname(__file__), "files", "pictures")

import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from singdiffusion import SingDiffusion, TimeFreeUNet
from singdiffusion.compat import release
from singdiffusion.modules import SingConfig, SingModule
from singdiffusion.modules.text import fingerprint

diffusers_logging.set_verbosity_error()

needs_pickles = pytest.mark.skipif(release("torch") < (2, 6), reason="below 2.6, torch reads no pickles")

TEXT_WIDTH = 16
SD15 = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}


@pytest.fixture(autouse=True)
def _logging_as_before():
    """Let no test silence the log of the next: a command that runs in this process quiets its libraries."""
    before = logging.root.manager.disable
    yield
    logging.disable(before)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    """A CLIPTokenizer that spells: every letter is a token."""
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-,."
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 16, "tokenizer_class": "CLIPTokenizer"}')
    return CLIPTokenizer.from_pretrained(folder, model_max_length=16)


def make_text_encoder(tokenizer: CLIPTokenizer, width: int = TEXT_WIDTH, seed: int = 0) -> CLIPTextModel:
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModel(config).eval()


UNET_SIZE = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 2,
    "norm_num_groups": 8,
}


def build_pipe(
    tokenizer: CLIPTokenizer,
    seed: int = 0,
    channels: int = 4,
    width: int = TEXT_WIDTH,
    scaling: float = 0.18215,
) -> StableDiffusionPipeline:
    """Return a StableDiffusionPipeline with random weights; ``channels`` of latents, ``width`` of text."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=scaling,
    )
    unet = UNet2DConditionModel(
        in_channels=channels, out_channels=channels, **(UNET_SIZE | {"cross_attention_dim": width})
    )
    pipe = StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=make_text_encoder(tokenizer, width, seed),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=DDIMScheduler(
            **SD15, timestep_spacing="leading", steps_offset=1, clip_sample=False, set_alpha_to_one=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def make_pipe(tokenizer: CLIPTokenizer) -> Callable[..., StableDiffusionPipeline]:
    """``build_pipe`` with the tokenizer that spells."""
    return functools.partial(build_pipe, tokenizer)


@pytest.fixture
def pipe(make_pipe: Callable[..., StableDiffusionPipeline]) -> StableDiffusionPipeline:
    return make_pipe()


def make_module(seed: int = 5, channels: int = 4, width: int = TEXT_WIDTH) -> TimeFreeUNet:
    torch.manual_seed(seed)
    module = TimeFreeUNet(in_channels=channels, out_channels=channels, **(UNET_SIZE | {"cross_attention_dim": width}))
    return module.eval().requires_grad_(False)


def make_config(**changes) -> SingConfig:
    return SingConfig(**({"latent_channels": 4, "vae_scaling_factor": 0.18215, "text_width": TEXT_WIDTH} | changes))


@pytest.fixture
def sing(pipe: StableDiffusionPipeline) -> SingDiffusion:
    """A module with random weights that fits ``pipe`` and shares its text encoder."""
    return SingDiffusion(SingModule(make_module(), make_config(text_fingerprint=fingerprint(pipe.text_encoder))))


@pytest.fixture
def sing_folder(sing: SingDiffusion, tmp_path: Path) -> Path:
    sing.save_pretrained(tmp_path / "sing")
    return tmp_path / "sing"
