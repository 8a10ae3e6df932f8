"""Prompt embeddings of several chunks, of zeros, and of missing rows: split, weighed, and averaged."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from singdiffusion import SingModule, tiny
from singdiffusion.modules.chunks import fill_zeros, is_one_chunk, split, weights_of

from ..conftest import TEXT_WIDTH, make_config, make_module

LENGTH = 4


def embeddings(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, LENGTH - 1), st.integers(0, 99))
def test_chunks_hold_the_rows_in_order(batch, count, more, seed):
    rows = embeddings(batch, count * LENGTH + more, 3, seed=seed)
    found = split(rows, LENGTH)
    assert found.rows.shape == (batch, count + bool(more), LENGTH, 3)
    assert torch.equal(found.rows.flatten(1, 2)[:, : rows.shape[1]], rows)
    assert found.present.all()
    assert found.fits == (more == 0)
    assert is_one_chunk(rows, LENGTH) == (count == 1 and more == 0)


@given(st.integers(1, 11), st.integers(0, 99))
def test_rows_of_zeros_repeat_the_last_one_that_is_not(real, seed):
    rows = embeddings(2, 12, 3, seed=seed)
    rows[0, real:] = 0
    found = split(rows, LENGTH)
    assert torch.equal(found.rows[0].flatten(0, 1)[:real], rows[0, :real])
    assert (found.rows[0].flatten(0, 1)[real:] == rows[0, real - 1]).all()
    assert found.present.tolist() == [[real > 0, real > 4, real > 8], [True] * 3]
    assert found.fits == (real % LENGTH == 0)
    assert not is_one_chunk(rows[:, :LENGTH], LENGTH) or real >= LENGTH


def test_prompts_of_zeros_are_the_empty_prompt():
    rows, empty = embeddings(3, LENGTH, 2), embeddings(1, LENGTH, 2, seed=1)
    rows[1] = 0
    filled = fill_zeros(rows, empty)
    assert torch.equal(filled[1], empty[0])
    assert torch.equal(filled[[0, 2]], rows[[0, 2]])
    assert fill_zeros(rows, None) is rows


@given(st.lists(st.floats(0, 9), min_size=2, max_size=4))
def test_weights_are_distances_from_the_empty_prompt(distances):
    empty = torch.zeros(1, 1, 2, 2)
    predictions = torch.stack([torch.full((1, 2, 2), d / 2) for d in distances])[None]  # the norm of four halves is d
    weights = weights_of(predictions, torch.ones(1, len(distances), dtype=torch.bool), empty)[0]
    total = sum(distances)
    expected = [d / total if total > 1e-30 else 1 / len(distances) for d in distances]
    torch.testing.assert_close(weights, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_chunks_that_are_absent_have_no_weight():
    predictions, present = embeddings(1, 3, 1, 2, 2), torch.tensor([[True, False, True]])
    assert weights_of(predictions, present, None).tolist() == [[0.5, 0.0, 0.5]]
    assert weights_of(predictions, present, torch.zeros(1, 1, 2, 2))[0, 1] == 0


# -- a module ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def module():
    return SingModule(make_module(), make_config(text_length=LENGTH))


def predict(module, x_1, rows):
    with torch.no_grad():
        return module.network.predict(x_1, rows)


def test_two_chunks_by_the_formula(module):
    """sum_k w_k y_k with w_k proportional to |y_k - y(empty)|."""
    x_1, a, b, empty = embeddings(1, 4, 8, 8), *embeddings(3, 1, LENGTH, TEXT_WIDTH, seed=2)
    mean, _ = module.guided_moments(x_1, torch.cat([a, b], 1), empty_prompt_embeds=empty)
    y = [predict(module, x_1, each) for each in (a, b, empty)]
    distances = [float((each - y[2]).norm()) for each in y[:2]]
    expected = (distances[0] * y[0] + distances[1] * y[1]) / sum(distances)
    torch.testing.assert_close(mean, expected, atol=1e-5, rtol=1e-5)
    alike, _ = module.guided_moments(x_1, torch.cat([a, b], 1))  # the empty prompt's embeddings are not known
    torch.testing.assert_close(alike, (y[0] + y[1]) / 2, atol=1e-5, rtol=1e-5)


def test_an_empty_chunk_changes_nothing(module):
    x_1, a, empty = embeddings(1, 4, 8, 8), *embeddings(2, 1, LENGTH, TEXT_WIDTH, seed=2)
    one, _ = module.guided_moments(x_1, a, empty, 3.0)
    for filler in (empty, torch.zeros_like(empty)):
        long, _ = module.guided_moments(
            x_1, torch.cat([a, filler], 1), torch.cat([empty, filler], 1), 3.0, empty_prompt_embeds=empty
        )
        torch.testing.assert_close(long, one, atol=1e-5, rtol=1e-5)


def test_zeros_are_the_empty_prompt(module):
    x_1, a, empty = embeddings(2, 4, 8, 8), *embeddings(2, 1, LENGTH, TEXT_WIDTH, seed=2)
    pair = torch.cat([a, a * 0.5])
    expected, _ = module.guided_moments(x_1, pair, empty.expand(2, -1, -1), 3.0)
    zeros = torch.zeros(2, LENGTH, TEXT_WIDTH)
    got, _ = module.guided_moments(x_1, pair, zeros, 3.0, empty_prompt_embeds=empty)
    assert torch.equal(got, expected)
    long, _ = module.guided_moments(x_1, pair, torch.cat([zeros, zeros], 1), 3.0, empty_prompt_embeds=empty)
    torch.testing.assert_close(long, expected, atol=1e-5, rtol=1e-5)
    with pytest.warns(UserWarning, match="zeros stand for the empty prompt, whose embeddings are not known"):
        module.guided_moments(x_1, pair, zeros, 3.0)


def test_rows_that_fit_no_chunk_are_named(module):
    with pytest.warns(UserWarning, match="have 5 rows, some of which are zero or fit no chunk of 4"):
        module.guided_moments(embeddings(1, 4, 8, 8), embeddings(1, 5, TEXT_WIDTH))


def test_without_a_length_rows_are_taken_as_they_are():
    module = SingModule(make_module(), make_config())
    x_1, rows = embeddings(1, 4, 8, 8), embeddings(1, 7, TEXT_WIDTH)
    assert torch.equal(module.guided_moments(x_1, rows)[0], predict(module, x_1, rows))


def test_a_module_with_its_own_text_knows_length_and_empty_prompt():
    """The covariance is averaged with the same weights; the embedded decoder predicts one."""
    module = SingModule.from_pretrained("tiny")
    assert module.text_length == tiny.load_pipeline().tokenizer.model_max_length == 24
    a, empty = module.text.encode(["solid black background"]), module.text.encode([""])
    x_1 = embeddings(1, 4, 16, 16)
    one = module.guided_moments(x_1, a, empty, 7.5)
    two = module.guided_moments(x_1, torch.cat([a, empty], 1), torch.cat([empty, empty], 1), 7.5)
    for ours, theirs in zip(two, one, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
