"""Digests that change with the settings or the weights behind a picture."""

from __future__ import annotations

import hashlib
from typing import Any

from ..compat import named_weights
from ..painting.metadata import json_text

SAMPLED = 64  # numbers of each weight that go into a digest


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits of a JSON value; the order of keys does not matter."""
    return hashlib.sha256(json_text(value, sort_keys=True).encode()).hexdigest()[:16]


def weights_digest(networks: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits that change when the weights are trained, from ``SAMPLED`` numbers spread over each tensor.

    Args:
        networks: name -> ``torch.nn.Module``.
    """
    found = hashlib.sha256()
    for name, network in sorted(networks.items()):
        for key, weight in sorted(named_weights(network).items()):
            found.update(f"{name}.{key} {tuple(weight.shape)} {weight.dtype}".encode())
            flat = weight.detach().flatten()
            found.update(flat[:: max(1, len(flat) // SAMPLED)].double().cpu().numpy().tobytes())
    return found.hexdigest()[:16]
