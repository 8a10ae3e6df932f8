"""The cost of a remedy: time in pairs, and the memory of its networks."""

import copy
import json
from contextlib import nullcontext

import pytest

from singdiffusion.evaluate.metrics import cost
from singdiffusion.evaluate.remedies import FirstStep, Off, Trailing
from singdiffusion.modules.text import PromptEncoder


class Longer(Off):
    """Takes as many steps more as a remedy with a cost would."""

    name = title = "longer"

    def applied(self, pipe):
        return nullcontext({"num_inference_steps": 40})


def test_seconds_are_those_of_the_steps(pipe):
    """Twenty times the steps: the rest of the pipeline keeps the ratio below that, and far above 1."""
    done = []
    found = cost.measure(pipe, Longer(), "a room", pairs=7, advance=done.append, num_inference_steps=2)
    assert sum(done) == 2 * (7 + 1)
    assert found.pairs == 7
    assert 2 < found.ratio < 22
    assert found.interval is not None
    assert found.interval[0] > 0
    assert found.extra == pytest.approx(found.seconds - found.seconds_off, rel=0.5)
    assert json.loads(json.dumps(found.as_json()))["mib"] == 0


def test_few_pairs_have_no_interval(pipe):
    assert cost.measure(pipe, Trailing(), "a room", pairs=2, num_inference_steps=2).interval is None


def test_memory_counts_what_the_pipeline_does_not_have(pipe, sing_folder):
    remedy = FirstStep(str(sing_folder))
    module = sum(p.numel() * p.element_size() for p in remedy.module.network.parameters()) / 2**20
    assert cost.extra_memory(pipe, Off()) == 0
    assert cost.extra_memory(pipe, remedy) == pytest.approx(module)
    remedy.module.text = PromptEncoder([pipe.tokenizer], [pipe.text_encoder])  # shared: nothing more
    assert cost.extra_memory(pipe, remedy) == pytest.approx(module)
    own = copy.deepcopy(pipe.text_encoder)
    remedy.module.text = PromptEncoder([pipe.tokenizer], [own])
    text = sum(t.numel() * t.element_size() for t in [*own.parameters(), *own.buffers()]) / 2**20
    assert cost.extra_memory(pipe, remedy) == pytest.approx(module + text)
