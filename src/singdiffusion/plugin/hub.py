"""Files from the hub, or from its cache; why there are none is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import SingDiffusionError


def download(hub_id: str, patterns: list[str], looked_for: str, **hub: Any) -> Path:
    """The folder with those files of a repository that match.

    Args:
        hub_id: "owner/name".
        patterns: as for ``huggingface_hub.snapshot_download``, which also takes ``hub``.
        looked_for: what of this name was looked for on this machine before, such as "folder".

    Raises:
        SingDiffusionError: it is no hub id, or the hub did not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns, **hub))
    except HFValidationError as error:
        raise SingDiffusionError(
            f"there is no {looked_for} {hub_id}, and it is no hub id such as 'owner/name'"
        ) from error
    except (OSError, ValueError) as error:
        raise SingDiffusionError(
            f"there is no {looked_for} {hub_id}, and the hub did not give it ({type(error).__name__}); "
            "check the name, and the connection if it is not in the local cache"
        ) from error
