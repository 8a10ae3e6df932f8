"""Files from the hub or its cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import SingDiffusionError


def download(hub_id: str, patterns: list[str], kind: str, **hub: Any) -> Path:
    """Return the local folder with the files of a repository that match the patterns.

    Args:
        hub_id: "owner/name".
        patterns: as for ``huggingface_hub.snapshot_download``.
        kind: for messages, what was not found locally, such as "folder".
        hub: other options of ``huggingface_hub.snapshot_download``.

    Raises:
        SingDiffusionError: the name is not a hub id, the hub has no such repository, or it cannot be reached.
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
