"""Picture files that commands write: names that do not collide, and the folder of `--draw`."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autofocus.cli.output import note
from autofocus.errors import InputError

# Most file systems take 255 bytes in one name.
_MAX_BYTES = 100
_JPEG_QUALITY = 92


class FileNames:
    """File names that differ from each other in more than the case of letters."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def give(self, wanted: str) -> str:
        """Return the wanted name, with a number appended where it is taken."""
        name, number = wanted, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{wanted}-{number}"
        self._taken.add(name.casefold())
        return name


def file_name(text: str) -> str:
    """Return a text as a file name: unsafe characters replaced, and cut to length."""
    short = text.encode("utf-8", "replace")[:_MAX_BYTES].decode(errors="ignore")
    return re.sub(r"[^\w. -]+", "_", short) or "_"


class DrawingFolder:
    """Folder of pictures named `<name of the source>.jpg`.

    Args:
        folder: Made if missing.
        sources: Paths or URLs of all images that will be drawn.

    Raises:
        InputError: If a source lies in the folder, where its picture might replace it.
    """

    def __init__(self, folder: Path, sources: Iterable[str | Path]) -> None:
        for source in sources:
            if Path(source).parent.resolve() == folder.resolve():
                raise InputError(
                    f"--draw {folder}: the images themselves are there, such as "
                    f"{Path(source).name}. Choose another folder for the drawings."
                )
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._names = FileNames()
        self.num_written = 0

    def write(self, source: str | Path, picture: Any) -> None:
        """Write an RGB picture [h, w, 3] under the name of its source."""
        name = self._names.give(file_name(Path(source).stem))
        write_jpeg(self._folder / f"{name}.jpg", picture)
        self.num_written += 1

    def report(self) -> None:
        """Print the number of pictures and their folder to stderr."""
        pictures = "drawing" if self.num_written == 1 else "drawings"
        note(f"{self.num_written} {pictures} in {self._folder}/")


def write_jpeg(path: Path, picture: Any) -> None:
    """Write an RGB picture [h, w, 3]."""
    import cv2

    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY),
        # Thin coloured lines bleed where colour has fewer pixels than light.
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ]
    pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, content = cv2.imencode(".jpg", pixels, options)
    assert done, "OpenCV writes JPEG"
    path.write_bytes(content.tobytes())
