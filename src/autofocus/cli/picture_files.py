"""Picture files that commands write: names that do not collide, and the folder of `--draw`."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autofocus.cli.output import note

# What a file system takes in one name is 255 bytes, mostly.
_MAX_BYTES = 100
_JPEG_QUALITY = 92


class FileNames:
    """Gives names that no other file of this run got, in any case of letters."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def give(self, wanted: str) -> str:
        """Return the name that was wanted, with a number behind it where it is taken."""
        name, number = wanted, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{wanted}-{number}"
        self._taken.add(name.casefold())
        return name


def file_name(text: str) -> str:
    """Return a text with whatever a file system may not like replaced, and not too long."""
    short = text.encode("utf-8", "replace")[:_MAX_BYTES].decode(errors="ignore")
    return re.sub(r"[^\w. -]+", "_", short) or "_"


class DrawingFolder:
    """Writes pictures as `<name of the source>.jpg`.

    Args:
        folder: Made when it is not there.
        sources: Paths or URLs of all images that will be drawn.

    Raises:
        InputError: If a source lies in the folder: its picture would stand in its place.
    """

    def __init__(self, folder: Path, sources: Iterable[str | Path]) -> None:
        from autofocus.errors import InputError

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
        import cv2

        options = [
            *(cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY),
            # Thin coloured lines bleed where colour has fewer pixels than light.
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        ]
        pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        done, content = cv2.imencode(".jpg", pixels, options)
        assert done, "OpenCV writes JPEG"
        name = self._names.give(file_name(Path(source).stem))
        (self._folder / f"{name}.jpg").write_bytes(content.tobytes())
        self.num_written += 1

    def report(self) -> None:
        """Say on stderr how many pictures are where."""
        pictures = "drawing" if self.num_written == 1 else "drawings"
        note(f"{self.num_written} {pictures} in {self._folder}/")
