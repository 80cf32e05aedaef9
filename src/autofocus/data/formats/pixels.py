"""The pixels that annotations count on: the upright image's, or those of the photo as it is stored.

Numbers that are all small are fractions, as some exports of pixel formats write them.

A camera that is held upright stores its photo lying and says so in EXIF. Tools that do not know
EXIF show it lying, and what is labelled there has to be turned with it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autofocus.data.images.fetch import LocateError, open_bytes
from autofocus.data.images.files import ImageFiles
from autofocus.data.images.header import ImageHeader, read_header
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, IssueLog, RowIssues
from autofocus.data.rows.wire import IMAGE_FORMATS
from autofocus.errors import ImageError

# Of a ring's fractions: to a hundredth of a pixel in the widest image, which keeps files short.
NUM_DECIMALS = 8
# As the published converter of COCO has it: drawn over the edge, fractions are a little above 1.
_MOST_OF_FRACTIONS = 1.5
# Bytes of a file that its header is first looked for in.
_HEAD_BYTES = 1 << 16

# Upright place of a point of the stored pixels, in fractions, by EXIF orientation: only those that
# swap width and height, by which stored pixels are told from upright ones.
_TURNS: dict[int, Callable[[float, float], tuple[float, float]]] = {
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}


@dataclass(frozen=True)
class LabelledPixels:
    """The pixels of an image that its annotations count on.

    Attributes:
        size: Their (height, width).
        orientation: EXIF's, where these are the pixels as they are stored and the image is
            turned by it; 1 where it is not.
    """

    size: tuple[int, int]
    orientation: int = 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) of the image as it is shown."""
        return self.size[::-1] if self.orientation in _TURNS else self.size

    def as_fractions(self) -> "LabelledPixels":
        """Return the same for coordinates that are fractions of these pixels."""
        return replace(self, size=(1, 1))

    def box_upright(
        self, xyxy_frac: tuple[float, float, float, float]
    ) -> tuple[float, float, float, float]:
        """Return a box, in fractions, on the upright image."""
        turn = _TURNS.get(self.orientation)
        if turn is None:
            return xyxy_frac
        (x, y), (other_x, other_y) = turn(*xyxy_frac[:2]), turn(*xyxy_frac[2:])
        return min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y)

    def ring_upright(self, ring: list[float]) -> list[float]:
        """Return a ring [x1, y1, x2, y2, …], in fractions, on the upright image."""
        turn = _TURNS.get(self.orientation)
        if turn is None:
            return ring
        points = zip(ring[::2], ring[1::2], strict=True)
        return [round(number, NUM_DECIMALS) for point in points for number in turn(*point)]


def are_fractions(coordinates: Iterable[float], options: ReadOptions) -> bool:
    """Return whether a source's coordinates are fractions of its images.

    Args:
        coordinates: Numbers of the whole source; the first that must be pixels ends the reading.
        options: What the user says they are.
    """
    if options.coordinates is not None:
        return options.coordinates == "fractions"
    are_any = False
    for number in coordinates:
        if abs(number) > _MOST_OF_FRACTIONS:
            return False
        are_any = True
    return are_any


def fractions_read(file: str | Path) -> Issue:
    """Return the issue of a source whose coordinates are taken for fractions."""
    return Issue(
        file=str(file),
        code="coordinate.fractions",
        severity="warning",
        message=f"has no coordinate above {_MOST_OF_FRACTIONS}, so all are read as fractions",
        hint="'--coordinates fractions' says that it is so, 'pixels' that it is not.",
    )


class ImageSizes:
    """Reads sizes from images.

    Args:
        options: Image root and maps.
    """

    def __init__(self, options: ReadOptions) -> None:
        # Missing files are reported when the rows' images are looked for.
        self._files = ImageFiles(options, IssueLog())

    def header(self, base_dir: str | Path, image_url: str) -> ImageHeader | None:
        """Return the header of a local image, None for any other and for one that has none."""
        try:
            place = self._files.locate(str(base_dir), image_url)
            return None if "://" in place else _read_header(place)
        except (LocateError, ImageError, OSError):
            return None

    def find(
        self,
        base_dir: str | Path,
        image_url: str,
        said: tuple[int, int] | None,
        path: str,
        issues: RowIssues,
    ) -> LabelledPixels | None:
        """Return the pixels that coordinates count on, or None after an issue about its size.

        Tools that do not know EXIF show a photo as it is stored: there width and height are
        swapped, and what was labelled is turned upright with the photo.

        Args:
            base_dir: Folder that a relative URL starts from.
            image_url: The image.
            said: (height, width) that the annotations say; used where there is no image to ask.
            path: Place of that size in the annotations, for messages.
            issues: Told when the two differ.
        """
        header = self.header(base_dir, image_url)
        if header is None:
            if said is not None:
                return LabelledPixels(said)
            message = "must be an image that is there and has a header"
            hint = "Nothing else says its size, which makes pixels fractions."
            issues.error("image.no_size", path, message, image_url, hint)
            return None
        upright = LabelledPixels((header.height, header.width))
        if said is None or said == upright.size:
            return upright
        got = f"{said[1]} x {said[0]}"
        stored = LabelledPixels(said, header.orientation)
        if stored.upright_size == upright.size:
            message = "counts on the photo as it is stored"
            hint = f"EXIF orientation {header.orientation} turns it upright, and its objects too."
            issues.info("image.rotated", path, message, got, hint)
            return stored
        message = f"must be the image's {header.width} x {header.height}"
        hint = "The image itself counts; were images resized after they were labelled?"
        issues.warning("image.size", path, message, got, hint)
        return upright


def image_details(image_url: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return a row's `image_details` for an image of `size` (height, width)."""
    suffix = image_url.rpartition(".")[2].lower()
    known = {"format": suffix} if suffix in IMAGE_FORMATS else {}
    return {**known, "width": size[1], "height": size[0]}


def _read_header(place: str) -> ImageHeader:
    with open(place, "rb") as file:
        head = file.read(_HEAD_BYTES)
    try:
        return read_header(head)
    except ImageError:
        # Long metadata may stand before the size, and WebP wants to be whole.
        return read_header(open_bytes(place))
