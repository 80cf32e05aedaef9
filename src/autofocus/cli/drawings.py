"""The folder that `--draw` writes pictures into: one a source image, and never over one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autofocus.cli.file_names import FileNames, file_name
from autofocus.cli.output import note

_QUALITY = 92


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
            *(cv2.IMWRITE_JPEG_QUALITY, _QUALITY),
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
