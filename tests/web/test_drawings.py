"""What is drawn beside the pictures, against the audit's own numbers."""

import re

import pytest

from singdiffusion import audit
from singdiffusion.web import drawings
from singdiffusion.web.studio import Studio

SD15 = {
    "_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "timestep_spacing": "trailing",
}  # fmt: skip


def test_the_flaw_in_plain_words_and_at_its_place_on_the_line():
    found = audit(SD15, latents=64)
    told = drawings.verdict(found, fixed=False)
    assert "<strong>Affected.</strong>" in told
    assert "DDIM and 50 steps" in told
    assert "6.8 % of the picture; it is given pure noise" in told
    placed = re.search(r'mark expected" style="left:([\d.]+)%', told)
    assert placed
    assert float(placed[1]) == pytest.approx(100 * (1 - found.alpha**0.5), abs=0.05)
    assert "what is lost" in told
    fixed = drawings.verdict(found, fixed=True)
    assert "puts the missing part there" in fixed
    assert "what is lost" not in fixed


def test_nothing_to_fix_has_no_gap():
    told = drawings.verdict(
        audit(SD15 | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}, latents=64), True
    )
    assert "Not affected." in told
    assert "begins with pure noise, as it was trained to" in told
    assert 'class="gap' not in told
    assert "puts the missing part" not in told


def test_warnings_of_the_audit_are_said():
    told = drawings.verdict(audit(SD15 | {"rescale_betas_zero_snr": True}, latents=64), False)
    assert "Epsilon prediction says nothing about the picture at zero SNR" in told


def test_a_server_without_a_module_says_so(make_pipe):
    studio = Studio("x", make_pipe())
    assert "No module was given" in drawings.verdict(audit(SD15, latents=64), False, studio.note)
