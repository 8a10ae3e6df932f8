"""Folders and hub caches in the layouts of others, with small random weights."""

import json
import shutil

from safetensors.torch import save_file

COMMIT = "0123456789" * 4


def cached(cache, hub_id, folder):
    """Move a folder into a cache of the hub as the repository's only snapshot, and return its folder there."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots").mkdir()
    shutil.move(folder, repository / "snapshots" / COMMIT)
    return repository / "snapshots" / COMMIT


def unet_config(module, name="UNet2DConditionModel", **more):
    """Return the ``config.json`` of a published U-Net."""
    own = {key: value for key, value in module.config.items() if not key.startswith("_")}
    return own | {"_class_name": name} | more


def write_one_more_step(
    folder, module, tokenizer=None, encoder=None, *, text=None, name="someone/oms_module_15_21", sdxl=False, variant=""
):
    """Write a module in OneMoreStep's layout.

    Args:
        tokenizer, encoder: in the folder itself.
        text: in their place, the name of the repository or folder that holds them.
        name: the module's own, in its pointer.
        sdxl: whether both text encoders of ``text`` are meant.
        variant: of the network's weights, such as ".fp16".
    """
    for part in ("oms_module", "oms_text_encoder", "oms_tokenizer"):
        (folder / part).mkdir(parents=True)
    classes = {"oms_module": ["diffusers_patch", "UNet2DConditionWoCTModel"]}
    classes |= {
        "oms_text_encoder": ["transformers", "CLIPTextModel"],
        "oms_tokenizer": ["transformers", "CLIPTokenizer"],
    }
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "OMSPipeline"} | classes))
    pointer = {"_name_or_path": name, "subfolder": "oms_module"}
    config = unet_config(module, "UNet2DConditionWoCTModel", **pointer)
    (folder / "oms_module" / "config.json").write_text(json.dumps(config))
    weights = {key: value.half() if variant else value for key, value in module.state_dict().items()}
    save_file(weights, folder / "oms_module" / f"diffusion_pytorch_model{variant}.safetensors")
    if text is None:
        tokenizer.save_pretrained(folder / "oms_tokenizer")
        encoder.save_pretrained(folder / "oms_text_encoder")
        return
    for part, kind in (("text_encoder", "SDXLTextEncoder"), ("tokenizer", "SDXLTokenizer")):
        pointer = {"_name_or_path": str(text)} | ({"_class_name": kind} if sdxl else {"subfolder": part})
        (folder / f"oms_{part}" / "config.json").write_text(json.dumps(pointer))


def write_text(folder, tokenizer, encoder, end="", **options):
    """Write a text encoder and its tokenizer as a model in diffusers' layout has them."""
    encoder.save_pretrained(folder / f"text_encoder{end}", **options)
    tokenizer.save_pretrained(folder / f"tokenizer{end}")


def write_vae(folder, scaling, channels=4):
    """Write the configuration of a VAE, which is all that is read of it."""
    (folder / "vae").mkdir(parents=True)
    (folder / "vae" / "config.json").write_text(json.dumps({"latent_channels": channels, "scaling_factor": scaling}))
