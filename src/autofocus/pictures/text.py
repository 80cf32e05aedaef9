"""Text on pictures. Class names come in every script: what no font here can draw is escaped."""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

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

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_text(
    canvas: NDArray[np.uint8],
    text: str,
    corner: tuple[int, int],
    size: int,
    colour: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """Return RGB `canvas` with `text` in letters of `size` pixels, upper left corner at (x, y)."""
    text, font = _lettering(text, size)
    picture = Image.fromarray(canvas)
    ImageDraw.Draw(picture).text(corner, text, fill=colour, font=font)
    return np.array(picture)


def shortened(text: str, rest: str, size: int, room: int) -> str:
    """Return as much of `text` as fits into `room` pixels before `rest`."""
    cut = text
    while len(cut) > 1:
        shown, font = _lettering(f"{cut}{'' if cut == text else '…'}{rest}", size)
        if font.getlength(shown) <= room:
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
    """Say whether the font draws the character otherwise than one that does not exist."""
    if isinstance(font, ImageFont.ImageFont):
        return character.isascii()
    drawn, missing = font.getmask(character), font.getmask(_NO_CHARACTER)
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)
