"""Pixels equal to Pillow's, which is what pretrained weights saw."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from autofocus.data.images.decode import decode, read_header

SHARED = Path(__file__).parents[2] / "../shared/data"


def with_pillow(data: bytes) -> NDArray[np.uint8]:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image.info.pop("transparency", None)  # Pillow would warn that convert loses it
    return np.asarray(image.convert("RGB"))


def scene(height: int = 121, width: int = 160) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encoded() -> dict[str, bytes]:
    """Return every mode that each of the formats can store, compressed in every common way."""
    image, files = scene(), {}

    def add(name: str, mode: str, image_format: str, **options: object) -> None:
        buffer = io.BytesIO()
        image.convert(mode).save(buffer, image_format, **options)
        files[f"{image_format} {mode} {name}"] = buffer.getvalue()

    for mode in ("RGB", "L", "CMYK"):
        add("", mode, "JPEG")
    for subsampling in (0, 1, 2):
        add(f"subsampling {subsampling}", "RGB", "JPEG", subsampling=subsampling)
        add(f"progressive {subsampling}", "RGB", "JPEG", progressive=True, subsampling=subsampling)
    add("stored as RGB", "RGB", "JPEG", keep_rgb=True)
    add("restarts", "RGB", "JPEG", restart_marker_rows=1)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        add("", mode, "PNG")
        for compression in ("raw", "packbits", "tiff_lzw", "tiff_deflate"):
            add(compression, mode, "TIFF", compression=compression)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        add("", mode, "BMP")
    for mode in ("L", "RGB"):
        add("jpeg", mode, "TIFF", compression="jpeg")
        add("", mode, "GIF")
        add("", mode, "WEBP")
        add("lossless", mode, "WEBP", lossless=True)
    add("group 4", "1", "TIFF", compression="group4")
    add("", "CMYK", "TIFF")
    add("", "YCbCr", "TIFF")
    add("big", "RGB", "TIFF", big_tiff=True)
    add("transparent colour", "P", "PNG", transparency=3)
    add("transparent colours", "P", "PNG", transparency=bytes(range(256)))
    add("transparent colour", "RGB", "PNG", transparency=(1, 2, 3))
    add("transparent colour", "P", "GIF", transparency=3)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for image_format in ("JPEG", "PNG", "TIFF", "WEBP"):
            add(f"orientation {orientation}", "RGB", image_format, exif=exif)
    return files


ENCODED = encoded()


@pytest.mark.parametrize("name", ENCODED)
def test_every_format_and_mode_decodes_to_pillows_pixels(name: str) -> None:
    data = ENCODED[name]
    pixels = decode(data)
    np.testing.assert_array_equal(pixels, with_pillow(data))
    header = read_header(data)
    assert (header.height, header.width) == pixels.shape[:2]


def test_16_bit_colour_keeps_the_high_byte() -> None:
    cv2 = pytest.importorskip("cv2")
    high = np.asarray(scene())
    low = np.random.default_rng(1).integers(0, 256, high.shape, dtype=np.uint16)
    for extension in (".png", ".tiff"):
        _, data = cv2.imencode(extension, ((high.astype(np.uint16) << 8) | low)[..., ::-1])
        np.testing.assert_array_equal(decode(data.tobytes()), high)


@pytest.mark.parametrize(
    "folder", ["fridge-multiclass", "fridge-multilabel", "coco128", "bccd-voc"]
)
def test_real_photos_decode_to_pillows_pixels(folder: str) -> None:
    photos = sorted(
        path
        for path in (SHARED / folder).rglob("*")
        if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    if not photos:
        pytest.skip(f"no photos in {SHARED / folder}")
    for path in photos[:: max(1, len(photos) // 12)]:
        data = path.read_bytes()
        np.testing.assert_array_equal(decode(data), with_pillow(data), err_msg=str(path))
