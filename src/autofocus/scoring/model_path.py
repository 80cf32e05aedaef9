"""The model folder that a path from the user means. Reads no model file."""

import os
from pathlib import Path

from autofocus.errors import ModelFolderError
from autofocus.manifest import MANIFEST_NAME
from autofocus.run_format import check_run_format

BEST_MODEL = "best_model"


def resolve_model(path: str | Path) -> Path:
    """Return the model folder that `path` means: itself, or the `best_model` of a run folder.

    Links are resolved, so that a run which publishes a better model meanwhile does not change
    files under a reader.

    Raises:
        ModelFolderError: If there is no model.
        RunFolderError: If it is a run of another format.
    """
    path = Path(path)
    folder = Path(os.path.realpath(path))
    if not folder.exists():
        raise ModelFolderError(
            f"{path}: no such folder. Give a model folder or the run folder "
            "that 'autofocus train' printed."
        )
    if not folder.is_dir():
        raise ModelFolderError(
            f"{path}: is a file, a model is a folder with a {MANIFEST_NAME}. "
            f"Did you mean {path.parent}?"
        )
    if (folder / MANIFEST_NAME).is_file():
        return folder
    check_run_format(folder)
    best = folder / BEST_MODEL
    if (best / MANIFEST_NAME).is_file():
        return Path(os.path.realpath(best))
    if (folder / "job.yml").is_file() or best.is_symlink():
        raise ModelFolderError(
            f"{path}: this run has no {BEST_MODEL} yet. Let 'autofocus train' go on until it "
            "has printed its first model."
        )
    raise ModelFolderError(
        f"{path}: neither a model folder ({MANIFEST_NAME}) nor a run folder ({BEST_MODEL}). "
        "Give the run folder that 'autofocus train' printed."
    )
