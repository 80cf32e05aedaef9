"""Photos for tests: drawn, written and encoded; the real fridge photos where they are."""

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"
COLOURS = {"blue": (30, 60, 220), "green": (40, 190, 60), "red": (220, 50, 40)}


def draw_photo(colour: tuple[int, int, int], seed: int, size: tuple[int, int]) -> np.ndarray:
    """Return RGB uint8 [h, w, 3]: a coloured disc on noise."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = rng.integers(90, 160, (height, width, 3), dtype=np.uint8)
    centre = (int(rng.integers(width // 3, 2 * width // 3)), height // 2)
    return cv2.circle(image, centre, min(height, width) // 3, colour, -1)


def write_photo(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class folder each for three colours, 8 photos of 48×64 pixels in each."""
    root = tmp_path_factory.mktemp("photos")
    for k, (name, colour) in enumerate(COLOURS.items()):
        for i in range(8):
            write_photo(root / name / f"{i}.png", draw_photo(colour, 100 * k + i, (48, 64)))
    return root


@pytest.fixture(scope="session")
def fridge_photos() -> Path:
    folder = SHARED_DATA / "fridge-multiclass"
    if not folder.is_dir():
        pytest.skip(f"the real photos are not here: {folder}")
    return folder


def encode_photo(
    seed: int = 0, size: tuple[int, int] = (48, 64), image_format: str = "JPEG"
) -> bytes:
    """Return a small encoded image of smooth noise; size is (height, width)."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(buffer, image_format)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photo() -> bytes:
    return encode_photo()


@pytest.fixture(scope="session")
def make_photo() -> Callable[..., bytes]:
    """Encode photos that differ: `make_photo(seed, (height, width), "PNG")`."""
    return encode_photo
