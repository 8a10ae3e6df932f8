"""Painting with a small pipeline and looking at what its U-Net receives; the right answer, written out a second time."""

from contextlib import contextmanager

import torch

PROMPT, NEGATIVE = "a dark room", "grey"


@contextmanager
def recording(module):
    """The inputs (sample, timestep) of every forward of a network."""
    seen = []
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(
            (args[0].clone(), kwargs.get("timestep", args[1] if len(args) > 1 else None))
        ),
        with_kwargs=True,
    )
    try:
        yield seen
    finally:
        handle.remove()


def run(pipe, prompt=PROMPT, seed=0, steps=4, **options):
    generator = options.pop("generator", None) or torch.Generator().manual_seed(seed)
    settings = {"num_inference_steps": steps, "guidance_scale": 7.5, "generator": generator, "output_type": "np"}
    return pipe(prompt, **(settings | options)).images


def first_input(pipe, *args, **options):
    """The U-Net's first input in a call, a row per picture (the guidance copy dropped), and its timestep."""
    with recording(pipe.unet) as seen:
        images = run(pipe, *args, **options)
    sample, timestep = seen[0]
    return sample[-len(images) :], float(timestep)


def embed(pipe, prompt):
    tokens = pipe.tokenizer(prompt, padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids
    return pipe.text_encoder(tokens)[0]


@torch.no_grad()
def expected_mean(pipe, module, x_1, prompt=PROMPT, negative="", w=7.5):
    """The paper's guided mean, written out here a second time, two separate forwards."""
    y_pos = module.predict(x_1, embed(pipe, [prompt] * len(x_1)))
    if w <= 1:
        return y_pos
    y_neg = module.predict(x_1, embed(pipe, [negative] * len(x_1)))
    return (y_neg + w * (y_pos - y_neg)) / w


def noise(batch=1, seed=0):
    return torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def true_alpha_sigma(scheduler, timestep):
    """alpha and sigma that belong to the timestep that the network gets, from the schedule alone, not from the plug-in.

    Table timesteps are looked up. Where a scheduler makes its own sigmas (Karras and the like, or a fractional
    timestep) the noise level is its first sigma, and alpha = 1 / sqrt(1 + sigma^2).
    """
    bar = scheduler.alphas_cumprod.double()
    special = any(
        scheduler.config.get(key) for key in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
    )
    if special or timestep != int(timestep):
        ratio = float(scheduler.sigmas[0])
        return 1 / (1 + ratio**2) ** 0.5, ratio / (1 + ratio**2) ** 0.5
    value = float(bar[int(timestep)])
    return value**0.5, (1 - value) ** 0.5
