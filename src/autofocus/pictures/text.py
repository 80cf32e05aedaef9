"""Text on pictures: lines, bands beside objects where they hide little, captions below.

Class names come in every script: names that no font here can draw are escaped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from autofocus.pictures.palette import INK, Colour, ink_on

Pixels = NDArray[np.uint8]  # RGB [h, w, 3]
# (label, text that follows it, colour of the band)
Band = tuple[str, str, Colour]

# Tried in this order behind Pillow's own font, which knows Latin only.
_SYSTEM_FONTS: Final = (
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSans-Regular.ttf",
    "malgun.ttf",
    "msyh.ttc",
    "AppleSDGothicNeo.ttc",
    "Arial Unicode.ttf",
)
_NO_CHARACTER: Final = "\U0010fffe"

# Shares that may be hidden: of another object by a band, of its own object before the band goes to
# another corner, and of the picture by all bands together.
_MAX_HIDDEN: Final = 0.25
_MAX_OWN_HIDDEN: Final = 0.15
_MAX_COVERED: Final = 0.15
# More would never be read.
_MAX_LABELS: Final = 200
# Rows of a caption.
_MAX_ROWS: Final = 6

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_text(
    canvas: Pixels, text: str, corner: tuple[int, int], size: int, colour: Colour
) -> Pixels:
    """Return RGB `canvas` with `text` in letters of `size` pixels, upper left corner at (x, y)."""
    text, font = _lettering(text, size)
    picture = Image.fromarray(canvas)
    ImageDraw.Draw(picture).text(corner, text, fill=colour, font=font)
    return np.array(picture)


def shortened(text: str, rest: str, size: int, room: int) -> str:
    """Return as much of `text` as fits into `room` pixels before `rest`."""
    cut = text
    while len(cut) > 1:
        line, font = _lettering(f"{cut}{'' if cut == text else '…'}{rest}", size)
        if font.getlength(line) <= room:
            break
        cut = cut[:-1]
    return cut if cut == text else f"{cut}…"


def _lettering(text: str, size: int) -> tuple[str, Font]:
    """Return the text and a font that has all its characters, or else the text escaped."""
    text = " ".join(text.split())
    for font in _fonts(size):
        if all(_has(font, character) for character in set(text) if character != " "):
            return text, font
    return text.encode("ascii", "backslashreplace").decode(), _fonts(size)[0]


@lru_cache(maxsize=8)
def _fonts(size: int) -> list[Font]:
    found: list[Font] = [ImageFont.load_default(size)]
    for name in _SYSTEM_FONTS:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return found


@lru_cache(maxsize=4096)
def _has(font: Font, character: str) -> bool:
    """Return whether the font draws the character unlike one that does not exist."""
    if isinstance(font, ImageFont.ImageFont):
        return character.isascii()
    drawn, missing = font.getmask(character), font.getmask(_NO_CHARACTER)
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


@dataclass(frozen=True)
class Label:
    """Text beside one object.

    Attributes:
        label: Class; shortened where there is no room.
        rest: Text that follows the label, in full.
        paper: Colour of the band.
        box: (left, top, right, bottom) of the object, in pixels.
        must: True if it may hide other objects, though not other bands.
        extra: Text that follows the rest where there is room.
    """

    label: str
    rest: str
    paper: Colour
    box: NDArray[np.float64]
    must: bool = False
    extra: str = ""


def band(label: str, rest: str, paper: Colour, size: int, room: int) -> Pixels:
    """Return text on a band no wider than `room` pixels.

    Args:
        label: Text, shortened where there is no room.
        rest: Text that follows it, in full.
        paper: Colour behind the text.
        size: Height of the letters, in pixels.
        room: Greatest width, in pixels.
    """
    pad = max(2, size // 4)
    text = shortened(label, rest, size, room - 2 * pad) + rest
    blank = np.full((round(1.2 * size) + pad, max(1, room), 3), paper, np.uint8)
    written = draw_text(blank, text, (pad, pad // 2), size, ink_on(paper))
    inked = np.flatnonzero((written != blank).any(axis=(0, 2)))
    return written[:, : min(room, (inked[-1] if len(inked) else 0) + 1 + pad)]


def place_labels(picture: Pixels, labels: Sequence[Label], size: int, line: int) -> int:
    """Write labels beside their objects, in order; return how many found no room.

    Args:
        picture: Picture, changed in place.
        labels: Labels, the most important first.
        size: Height of the letters, in pixels.
        line: Width of the objects' lines, in pixels.
    """
    boxes = np.array([label.box for label in labels]).reshape(-1, 4)
    taken = np.empty((0, 4))
    allowed = _MAX_COVERED * picture.shape[0] * picture.shape[1]
    num_left_out = max(0, len(labels) - _MAX_LABELS)
    for i, label in enumerate(labels[:_MAX_LABELS]):
        others = np.delete(boxes, i, axis=0)
        for rest in dict.fromkeys((label.rest + label.extra, label.rest)):
            drawn = band(label.label, rest, label.paper, size, picture.shape[1])
            spot = _best_spot(label, drawn.shape, picture.shape, line, others, taken)
            if spot is None or (allowed < drawn.shape[0] * drawn.shape[1] and not label.must):
                continue
            left, top, right, bottom = (int(edge) for edge in spot)
            picture[top:bottom, left:right] = drawn[: bottom - top, : right - left]
            allowed -= (right - left) * (bottom - top)
            taken = np.concatenate([taken, spot[None]])
            break
        else:
            num_left_out += 1
    return num_left_out


def _best_spot(
    label: Label,
    shape: tuple[int, ...],
    picture: tuple[int, ...],
    line: int,
    others: NDArray[np.float64],
    taken: NDArray[np.float64],
) -> NDArray[np.float64] | None:
    """Return the best free spot for a band of a shape, [4] in pixels, or None."""
    spots = _spots(label.box, shape, picture, line)
    free = [spot for spot in spots if _is_free(spot, others, taken)]
    if label.must and not free:
        free = [spot for spot in spots if not _shares(spot, taken).any()]
    return free[0] if free else None


def _spots(
    box: NDArray[np.float64], shape: tuple[int, ...], picture: tuple[int, ...], line: int
) -> list[NDArray[np.float64]]:
    """Return the spots for a band, the least ambiguous first."""
    height, width = min(shape[0], picture[0]), min(shape[1], picture[1])
    half = line / 2
    edges = np.array([picture[1], picture[0]] * 2)
    left, top, right, bottom = (box + np.array([-half, -half, half, half])).clip(0, edges)
    corners = [
        (left, top - height),
        (right - width, top - height),
        (left, bottom),
        (right - width, bottom),
        (left, top),
        (left, bottom - height),
        (right - width, bottom - height),
    ]
    within = np.array([left, top, left + width, top + height])
    if _shares(within, box[None])[0] <= _MAX_OWN_HIDDEN:
        corners.insert(1, corners.pop(4))
    spots = []
    for x, y in corners:
        x = min(max(0, round(x)), picture[1] - width)
        if y >= 0 and y + height <= picture[0]:
            spots.append(np.array([x, round(y), x + width, round(y) + height], np.float64))
    if not spots:
        y = min(max(0, round(top)), picture[0] - height)
        x = min(max(0, round(left)), picture[1] - width)
        spots.append(np.array([x, y, x + width, y + height], np.float64))
    return spots


def _is_free(
    spot: NDArray[np.float64], others: NDArray[np.float64], taken: NDArray[np.float64]
) -> bool:
    """Return whether a band hides no other band and little of any other object."""
    return not (_shares(spot, taken).any() or (_shares(spot, others) > _MAX_HIDDEN).any())


def _shares(spot: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each box that lies behind a spot, [m]."""
    low, high = np.maximum(spot[:2], boxes[:, :2]), np.minimum(spot[2:], boxes[:, 2:])
    shared = (high - low).clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.asarray(shared / np.maximum(areas, 1e-9))


def with_caption(picture: Pixels, bands: Sequence[Band], size: int) -> Pixels:
    """Return the picture with bands below it, in up to six rows.

    Args:
        picture: RGB [h, w, 3].
        bands: Bands, the most important first.
        size: Height of the letters, in pixels.
    """
    width = picture.shape[1]
    gap = max(2, size // 3)
    rows: list[list[Pixels]] = []
    room = 0
    for label, rest, paper in bands:
        drawn = band(label, rest, paper, size, max(1, width - 2 * gap))
        if not rows or drawn.shape[1] > room:
            if len(rows) == _MAX_ROWS:
                break
            rows.append([])
            room = width - 2 * gap
        rows[-1].append(drawn)
        room -= drawn.shape[1] + gap
    if not rows:
        return picture
    step = rows[0][0].shape[0] + gap
    below = np.full((step * len(rows) + gap, width, 3), INK, np.uint8)
    for i, row in enumerate(rows):
        left = gap
        for drawn in row:
            part = drawn[:, : width - left]
            top = gap + i * step
            below[top : top + part.shape[0], left : left + part.shape[1]] = part
            left += drawn.shape[1] + gap
    return np.concatenate([picture, below])
