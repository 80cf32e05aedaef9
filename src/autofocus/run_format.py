"""The number of a run folder's format, which tells whether this version can read a run."""

import json
from pathlib import Path
from typing import Final

from autofocus.errors import RunFolderError

RUN_NAME: Final = "run.json"
# Counted up whenever an older version could no longer go on with, or read, what is written.
RUN_FORMAT: Final = 1
# The first format had no number.
_UNNUMBERED: Final = 1
_WAY_ON: Final = "Or train anew: into another --output-dir, or here with --overwrite."


def check_run_format(path: Path) -> None:
    """Check that the run in a folder is of the format that is read here; no run is fine.

    Args:
        path: The run folder.

    Raises:
        RunFolderError: If it is of an older or newer one.
    """
    owner = path / RUN_NAME
    try:
        run = json.loads(owner.read_bytes())
        found = run.get("format", _UNNUMBERED)
    except FileNotFoundError:
        return
    except (ValueError, AttributeError) as error:
        raise RunFolderError(
            f"{owner}: does not say which run this is ({error}). Copy the folder again. {_WAY_ON}"
        ) from error
    if found != RUN_FORMAT:
        raise RunFolderError(
            f"{path}: holds a run of format {found}, and this version of autofocus reads format "
            f"{RUN_FORMAT}. Use the version that wrote it. {_WAY_ON}"
        )
