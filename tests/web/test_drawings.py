"""The verdict and its diagram, compared with the audit's own numbers."""

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
    shown = drawings.verdict(found, fixed=False)
    assert "<strong>Affected.</strong>" in shown
    assert "DDIM and 50 steps" in shown
    assert "6.8 % of the picture. It is given pure noise." in shown
    placed = re.search(r'mark expected" style="left:([\d.]+)%', shown)
    assert placed
    assert float(placed[1]) == pytest.approx(100 * (1 - found.alpha**0.5), abs=0.05)
    assert "what is lost" in shown
    fixed = drawings.verdict(found, fixed=True)
    assert "adds the missing part" in fixed
    assert "what is lost" not in fixed


def test_nothing_to_fix_has_no_gap():
    shown = drawings.verdict(
        audit(SD15 | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}, latents=64), True
    )
    assert "Not affected." in shown
    assert "begins with pure noise, as in its training" in shown
    assert 'class="gap' not in shown
    assert "adds the missing part" not in shown


def test_warnings_of_the_audit_are_shown():
    found = audit(SD15 | {"rescale_betas_zero_snr": True}, latents=64)
    shown = drawings.verdict(found, False)
    warning = found.warnings[0]
    assert "psilon prediction" in warning
    assert warning[0].upper() + warning[1:] in shown


def test_a_server_without_a_module_has_a_note(make_pipe):
    studio = Studio("x", make_pipe())
    assert "This server has no module" in drawings.verdict(audit(SD15, latents=64), False, studio.note)
