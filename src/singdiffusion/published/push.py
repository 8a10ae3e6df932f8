"""``push_to_hub``: a module, with its model card, as a repository of the hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SingDiffusionError, one_line

if TYPE_CHECKING:
    from ..modules import SingModule


def push_to_hub(
    module: SingModule,
    hub_id: str,
    *,
    private: bool = False,
    commit_message: str = "A singdiffusion module",
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
) -> str:
    """Write a module into a repository of the hub, which is made if it is missing.

    Args:
        module: the module.
        hub_id: "owner/name".
        private: of a new repository.
        commit_message: of the commit.
        revision: branch; by default the main one.
        create_pr: whether to open a pull request in place of a commit on the branch.
        token: of the user; by default that of ``hf auth login``.

    Returns:
        Address of the commit.

    Raises:
        SingDiffusionError: the name is no hub id, or the hub refused it or cannot be reached.
    """
    from huggingface_hub import HfApi

    _require_id(hub_id)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "module"
        module.save_pretrained(files)
        try:
            api = HfApi(token=token)
            api.create_repo(hub_id, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=hub_id,
                folder_path=files,
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
            )
        except Exception as error:  # the hub's client raises several kinds
            raise SingDiffusionError(f"the hub did not take {hub_id!r:.80}: {one_line(error)}") from error
    return str(done.pr_url if create_pr else done.commit_url)


def _require_id(hub_id: str) -> None:
    """Check a name before the module is written and the hub is asked.

    Raises:
        SingDiffusionError: the hub has no such names.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(hub_id)
    except HFValidationError as error:
        raise SingDiffusionError(f"{hub_id!r:.80} is not a hub id such as 'owner/name'") from error
