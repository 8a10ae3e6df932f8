"""Files from the hub or its cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import SingDiffusionError


def download(hub_id: str, patterns: list[str], kind: str, **hub: Any) -> Path:
    """Return the folder with those files of a repository that match.

    Args:
        hub_id: "owner/name".
        patterns: as for ``huggingface_hub.snapshot_download``, which also takes ``hub``.
        kind: for messages: what of this name is missing on this machine, such as "folder".

    Raises:
        SingDiffusionError: the name is not a hub id, or the hub has no such repository or cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns, **hub))
    except HFValidationError as error:
        raise SingDiffusionError(f"there is no {kind} {hub_id}, and it is not a hub id such as 'owner/name'") from error
    except (OSError, ValueError) as error:
        raise SingDiffusionError(
            f"there is no {kind} {hub_id}, and the hub did not return it ({type(error).__name__}); "
            "check the name, and the connection if it is not in the local cache"
        ) from error
