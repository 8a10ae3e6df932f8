"""The lowest frequencies of the DCT, against scipy's."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from singdiffusion import SingDiffusionError
from singdiffusion.core.dct import basis, from_low_frequencies, low_frequencies


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (64, 4)])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_coefficients_are_scipys(size, count):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = dctn(x.numpy(), norm="ortho", axes=(-2, -1))[..., :count, :count]
    np.testing.assert_allclose(low_frequencies(x, count).numpy(), expected, atol=1e-12)


def test_there_and_back():
    low = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(low_frequencies(from_low_frequencies(low, 16, 24), 4), low[..., :4])


def test_the_kept_basis_is_that_of_each_size_dtype_and_device():
    for size, dtype in ((8, torch.float32), (16, torch.float32), (8, torch.float64)):
        for _ in range(2):
            rows = basis(size, 4, torch.empty(0, dtype=dtype))
            assert (rows.shape, rows.dtype) == ((4, size), dtype)
            torch.testing.assert_close(rows @ rows.T, torch.eye(4, dtype=dtype), atol=1e-6, rtol=0)


def test_inference_mode_does_not_spoil_training():
    with torch.inference_mode():
        low_frequencies(torch.zeros(1, 1, 11, 11), 3)
    x = torch.ones(1, 1, 11, 11, requires_grad=True)
    low_frequencies(x, 3).square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("count", [0, 9])
def test_a_count_beyond_the_picture(count):
    with pytest.raises(SingDiffusionError, match="count of frequencies must be within 1..8"):
        low_frequencies(torch.zeros(8, 8), count)
