"""Digests that change with the settings or the weights behind a picture."""

from __future__ import annotations

import hashlib
import json
from typing import Any

SAMPLED = 64  # numbers of each weight that go into a digest


def digest(what: Any) -> str:
    """16 hexadecimal digits of a JSON value."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def weights_digest(networks: dict[str, Any]) -> str:
    """16 hexadecimal digits that change with any training of the weights: of ``SAMPLED`` numbers spread over each tensor."""
    found = hashlib.sha256()
    for name, network in sorted(networks.items()):
        for key, weight in sorted(network.state_dict().items()):
            found.update(f"{name}.{key} {tuple(weight.shape)} {weight.dtype}".encode())
            flat = weight.detach().flatten()
            found.update(flat[:: max(1, len(flat) // SAMPLED)].double().cpu().numpy().tobytes())
    return found.hexdigest()[:16]
