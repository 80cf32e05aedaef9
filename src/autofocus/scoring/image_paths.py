"""Image arguments of a command line: files, folders and patterns, and their bytes."""

import glob
from collections.abc import Sequence
from pathlib import Path

from autofocus.data.formats.layout import walk_images
from autofocus.data.images.header import IMAGE_SUFFIXES
from autofocus.errors import ImageError, InputError


def expand_images(arguments: Sequence[str]) -> list[Path]:
    """Return the image files that the arguments mean, in their order.

    A folder means the image files in it and below, a pattern (`*`, `?`, `[…]`, `**`) the image
    files it matches, both sorted by name. Anything else is a file, there or not:
    scoring reports missing ones in their place.

    Raises:
        InputError: Names every folder and pattern without an image, and empty arguments.
    """
    paths: list[Path] = []
    problems = []
    for argument in arguments:
        if not argument:
            # `Path("")` is the current folder; a shell variable that is not set means none.
            problems.append("an image argument is empty; '.' is the current folder.")
            continue
        path = Path(argument)
        is_pattern = not path.exists() and glob.has_magic(argument)
        if not is_pattern and not path.is_dir():
            paths.append(path)
            continue
        found = _matches(argument) if is_pattern else _images_below(path)
        paths += found
        if not found:
            what = "matches no" if is_pattern else "has no"
            problems.append(
                f"{argument}: {what} image files ({', '.join(sorted(IMAGE_SUFFIXES))})."
            )
    if problems:
        raise InputError(problems)
    return paths


def read_image(path: Path) -> bytes | ImageError:
    """Return a file's bytes, or the reason why it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return ImageError("image.missing", "No such file.")
    except OSError as error:
        return ImageError("image.unreadable", f"Cannot be read: {error.strerror or error}.")


def _matches(pattern: str) -> list[Path]:
    found: list[Path] = []
    for name in sorted(glob.glob(pattern, recursive=True)):
        path = Path(name)
        # `**` matches folders and what is in them: taking the files alone counts each once.
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
            found.append(path)
    return found


def _images_below(folder: Path) -> list[Path]:
    return sorted(walk_images(folder))
