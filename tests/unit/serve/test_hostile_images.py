"""Hostile images against the real server: each keeps its place, and none takes it down."""

import io
import time
from collections.abc import Callable
from typing import Any

import pytest

from support.hostile_images import png_header
from support.serving import request_for

HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "30,000 × 30,000 header": lambda photo: png_header(30_000, 30_000),
    "small header, no pixels": lambda photo: png_header(100, 100),
    "zero bytes": lambda photo: b"",
    "truncated": lambda photo: photo[: len(photo) // 2],
    "header only": lambda photo: photo[:20],
    "text": lambda photo: b"this is no image",
    "html": lambda photo: b"<html><body>404</body></html>",
    "another file": lambda photo: b"%PDF-1.7 " + photo,
    "zip": lambda photo: b"PK\x03\x04" + photo,
}


@pytest.fixture(params=list(HOSTILE))
def hostile(request: pytest.FixtureRequest, photo: bytes) -> bytes:
    return HOSTILE[request.param](photo)


def test_hostile_image_keeps_its_place_between_good_ones(
    server: Any, photo: bytes, hostile: bytes
) -> None:
    reply = server.score(request_for(photo, hostile, photo))
    assert reply.status == 200
    first, error, last = reply.json
    assert first == last
    assert list(first) == ["probs", "labels"]
    assert set(error) == {"error"}
    assert set(error["error"]) == {"code", "message"}
    assert error["error"]["code"].startswith("image.")
    assert error["error"]["message"]


def test_hostile_image_alone_is_400(server: Any, hostile: bytes) -> None:
    reply = server.score(request_for(hostile))
    assert reply.status == 400
    assert reply.json["message"].startswith("No image could be read. data[0]: ")


def test_huge_header_is_refused_before_its_pixels_are_allocated(server: Any) -> None:
    started = time.monotonic()
    reply = server.score(request_for(*[png_header(30_000, 30_000)] * 8))
    # Decoding one of them would take 2.7 GB and many seconds.
    assert time.monotonic() - started < 2
    assert reply.status == 400
    assert "pixels" in reply.json["message"]


def test_every_encoding_of_one_picture_is_accepted(server: Any, make_photo: Any) -> None:
    formats = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP")
    reply = server.score(request_for(*(make_photo(image_format=name) for name in formats)))
    assert reply.status == 200
    assert ["probs" in row for row in reply.json] == [True] * 6


def test_grey_palette_alpha_cmyk_and_16_bit_are_accepted(server: Any, photo: bytes) -> None:
    from PIL import Image

    image = Image.open(io.BytesIO(photo))
    encoded = []
    for mode, name in (
        ("L", "PNG"),
        ("P", "PNG"),
        ("RGBA", "PNG"),
        ("CMYK", "JPEG"),
        ("I;16", "PNG"),
    ):
        converted = (
            image.convert("L").convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
        )
        buffer = io.BytesIO()
        converted.save(buffer, name)
        encoded.append(buffer.getvalue())
    reply = server.score(request_for(*encoded))
    assert reply.status == 200
    assert ["probs" in row for row in reply.json] == [True] * 5


def test_thousand_rows_are_413(server: Any, photo: bytes) -> None:
    reply = server.score(request_for(*[photo] * 1_000))
    assert reply.status == 413
    assert "1,000 images, at most 256" in reply.json["message"]
