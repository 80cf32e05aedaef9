"""Tensors written to a safetensors file that others can read."""

import errno
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write the tensors to `path`, with the mode that the umask gives any new file.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # a full disk is one of these, not an OSError
        raise OSError(errno.EIO, str(error), str(path)) from error
    # safetensors replaces the file by a private one; other users evaluate, serve and resume.
    path.chmod(mode)
