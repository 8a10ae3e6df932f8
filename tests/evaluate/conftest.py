"""Folders of modules, and a pipeline with each of two schedulers."""

import pytest
import torch

from singdiffusion import MeanDecoder
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import fingerprint

from ..conftest import TEXT_WIDTH, make_config, make_module
from .starts import SCHEDULERS


@pytest.fixture
def decoder_folder(pipe, tmp_path):
    torch.manual_seed(1)
    module = MeanDecoder(4, TEXT_WIDTH, grid=4, covariance_grid=2, width=16, layers=1).eval()
    torch.nn.init.normal_(module.mean_out[1].weight)
    text = fingerprint(pipe.text_encoder)
    SingModule(module, make_config(text_fingerprint=text)).save_pretrained(tmp_path / "decoder")
    return tmp_path / "decoder"


@pytest.fixture
def oms_folder(pipe, tmp_path):
    """A converted OneMoreStep module is a U-Net without time whose output is v at t = 1, used without our guidance."""
    own = {"prediction": "v_prediction", "guidance_scale": 1.0, "normalise_guidance": False}
    config = make_config(text_fingerprint=fingerprint(pipe.text_encoder), **own)
    SingModule(make_module(), config).save_pretrained(tmp_path / "oms")
    return tmp_path / "oms"


@pytest.fixture(params=SCHEDULERS)
def scheduled_pipe(request, pipe):
    pipe.scheduler = SCHEDULERS[request.param]()
    return pipe
