"""How large the images are that annotations count on: their own headers have the last word."""

from pathlib import Path
from typing import Any

from autofocus.data.formats.labelled_pixels import LabelledPixels
from autofocus.data.images.files import ImageFiles
from autofocus.data.images.header import ImageHeader, read_header
from autofocus.data.images.locate import LocateError, open_bytes
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import IssueLog, RowIssues
from autofocus.data.rows.wire import IMAGE_FORMATS
from autofocus.errors import ImageError

_HEAD_BYTES = 1 << 16


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
        """Return what coordinates count on, or None after saying that nothing tells its size.

        Tools that do not know EXIF show a photo as it is stored: there width and height are
        swapped, and what was labelled is turned upright with the photo.

        Args:
            base_dir: Folder that a relative URL starts from.
            image_url: The image.
            said: (height, width) that the annotations say; used where there is no image to ask.
            path: Where they say it, for messages.
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
