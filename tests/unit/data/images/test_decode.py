import io
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from autofocus.data.images.decode import decode, read_header, try_decode, used_bits
from autofocus.errors import ImageError
from support.hostile_images import many_scans, segment

HEIGHT, WIDTH = 31, 40
CODES = {
    "image.empty",
    "image.unknown_format",
    "image.truncated",
    "image.corrupt",
    "image.too_large",
}


def photo(height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))


def refused(data: bytes, max_pixels: int = 10**6) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, max_pixels)
    return caught.value


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_probe_reads_format_and_size_from_the_header(image_format: str) -> None:
    header = read_header(encode(photo(), image_format))
    assert (header.format, header.height, header.width) == (image_format.lower(), HEIGHT, WIDTH)
    assert header.orientation == 1


def test_lossless_formats_give_the_pixels_that_were_saved() -> None:
    pixels = np.asarray(photo())
    for data in (
        encode(photo(), "PNG"),
        encode(photo(), "BMP"),
        encode(photo(), "TIFF"),
        encode(photo(), "TIFF", compression="tiff_lzw"),
        encode(photo(), "TIFF", compression="tiff_deflate"),
        encode(photo(), "TIFF", big_tiff=True),
        encode(photo(), "WEBP", lossless=True),
    ):
        decoded = decode(data)
        np.testing.assert_array_equal(decoded, pixels)
        assert decoded.dtype == np.uint8
        assert decoded.flags.c_contiguous
        assert decoded.flags.writeable


def test_grey_and_one_bit_become_three_equal_channels() -> None:
    for mode in ("L", "1"):
        image = photo().convert(mode)
        expected = np.repeat(np.asarray(image.convert("L"))[:, :, None], 3, axis=2)
        for image_format in ("PNG", "BMP", "TIFF"):
            np.testing.assert_array_equal(decode(encode(image, image_format)), expected)


def test_alpha_is_dropped() -> None:
    rgba = photo().convert("RGBA")
    rgba.putalpha(7)
    for image_format in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode(encode(rgba, image_format)), np.asarray(photo()))


@pytest.mark.parametrize("transparency", [3, bytes(range(256))])
def test_palettes_with_transparency_keep_their_colours(transparency: int | bytes) -> None:
    palette = photo().quantize(64)
    expected = np.asarray(palette.convert("RGB"))
    data = encode(palette, "PNG", transparency=transparency)
    np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_the_high_byte(image_format: str) -> None:
    values = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 50
    expected = np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(values), image_format)), expected)


def deep_png(samples: np.ndarray, orientation: int = 1) -> bytes:
    """Encode 16-bit samples [h, w, c]: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    height, width, num_channels = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[num_channels]
    exif = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 274, 3, 1, orientation, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in samples.astype(">u2"))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)),
        (b"eXIf", exif),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    )
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_tiff(samples: np.ndarray, orientation: int) -> bytes:
    """Encode 16-bit samples [h, w, c], uncompressed."""
    height, width, num_channels = samples.shape
    pixels = samples.astype("<u2").tobytes()
    bits_at = 8 + 2 + 12 * 11 + 4
    tags = (
        *((256, 3, 1, width), (257, 3, 1, height), (258, 3, num_channels, bits_at)),
        *((259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, bits_at + 2 * num_channels)),
        *((274, 3, 1, orientation), (277, 3, 1, num_channels), (278, 3, 1, height)),
        *((279, 4, 1, len(pixels)), (284, 3, 1, 1)),
    )
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    bits = struct.pack(f"<{num_channels}H", *[16] * num_channels)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + bits + pixels


@pytest.mark.parametrize("num_channels", [1, 2, 3, 4])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_used_bits_of_16_are_spread_over_the_whole_range(
    num_channels: int, orientation: int
) -> None:
    samples = np.random.default_rng(0).integers(0, 1 << 12, (HEIGHT, WIDTH, num_channels))
    samples[..., :3][0, 0] = 4095
    if num_channels in (2, 4):
        samples[..., -1] = 65535  # alpha, which is no brightness
    files = [deep_png(samples, orientation)]
    if num_channels == 3:
        files.append(deep_tiff(samples, orientation))
    for data in files:
        assert used_bits(data) == 12
        plain, spread = decode(data), decode(data, sample_bits=12)
        np.testing.assert_array_equal(spread >> 4, plain)
        assert spread.max() == 255
        if orientation == 1:
            expected = samples[..., :3] if num_channels >= 3 else samples[..., :1]
            np.testing.assert_array_equal(spread, np.broadcast_to(expected >> 4, spread.shape))


@pytest.mark.parametrize("num_channels", [1, 3])
def test_what_is_brighter_than_the_used_bits_is_white(num_channels: int) -> None:
    samples = np.full((4, 4, num_channels), 4095)
    samples[0] = 60_000
    samples[1] = 256
    pixels = decode(deep_png(samples), sample_bits=12)
    assert pixels[:, 0, 0].tolist() == [255, 16, 255, 255]


def test_the_bits_of_other_images_stay() -> None:
    for image_format in ("PNG", "JPEG", "TIFF"):
        data = encode(photo(), image_format)
        assert used_bits(data) is None
        np.testing.assert_array_equal(decode(data, sample_bits=8), decode(data))


def test_a_cut_image_of_16_bits_is_refused_whatever_bits_it_uses() -> None:
    samples = np.random.default_rng(0).integers(0, 4096, (HEIGHT, WIDTH, 3))
    error = try_decode(deep_png(samples)[:-900], sample_bits=12)
    assert isinstance(error, ImageError)
    assert error.code == "image.truncated"
    assert error.__traceback__ is None


def test_samples_of_unknown_range_are_refused() -> None:
    error = refused(encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))
    assert error.code == "image.unknown_format"
    assert "8 or 16 bits" in error.message


def asymmetric() -> Image.Image:
    """Return an image in which no flip or rotation looks like another."""
    image = Image.new("RGB", (WIDTH, HEIGHT), (20, 20, 20))
    image.paste((250, 250, 250), (0, 0, 24, 8))
    image.paste((250, 20, 20), (0, 8, 8, 16))
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_undone_once_in_every_format(
    image_format: str, orientation: int
) -> None:
    # How a camera stores an upright scene under each orientation, from the EXIF standard's table.
    turn = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    upright = np.asarray(asymmetric())
    stored = Image.fromarray(np.ascontiguousarray(turn(upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
    data = encode(stored, image_format, exif=exif, **options.get(image_format, {}))

    header = read_header(data)
    assert (header.height, header.width, header.orientation) == (HEIGHT, WIDTH, orientation)
    difference = np.abs(decode(data).astype(int) - upright)
    assert difference.mean() < (2 if image_format == "JPEG" else 1e-9)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_out_of_range_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    for image_format in ("JPEG", "PNG", "WEBP"):
        assert read_header(encode(photo(), image_format, exif=exif)).orientation == 1


def test_damaged_exif_is_ignored() -> None:
    plain = encode(photo(), "JPEG")
    for junk in (b"", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + b"\1" * 40, b"junk"):
        segment = b"Exif\0\0" + junk
        app1 = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
        np.testing.assert_array_equal(decode(plain[:2] + app1 + plain[2:]), decode(plain))


def test_only_the_first_frame_of_an_animation_is_read() -> None:
    frames = [photo().quantize(32), Image.new("P", (WIDTH, HEIGHT))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(data), np.asarray(frames[0].convert("RGB")))


def test_nothing_but_the_bytes_decides_the_format() -> None:
    refusals = {
        b"": "image.empty",
        b"\0" * 100: "image.unknown_format",
        b"<!DOCTYPE html><html></html>": "image.unknown_format",
        b'{"image_url": "a.jpg"}': "image.unknown_format",
        b"\xff\xd8": "image.truncated",
        b"\x89PNG": "image.truncated",
        b"GIF89a": "image.truncated",
        b"\xff\xd8\xff\xd9": "image.corrupt",
    }
    for data, code in refusals.items():
        assert refused(data).code == code, data


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"<html>sign in</html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEIC or AVIF photo (save it as JPEG)"),
        (b"\0\0\0\x14ftypqt  " + b"\0" * 40, "a video"),
        (b"label,file\n1,a.jpg\n", "text"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, hint: str) -> None:
    error = refused(data)
    assert error.code == "image.unknown_format"
    assert hint in error.message


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_half_an_image_is_refused(image_format: str) -> None:
    data = encode(photo(120, 160), image_format)
    for keep in (len(data) // 2, len(data) * 9 // 10):
        assert refused(data[:keep]).code == "image.truncated"


def test_a_jpeg_without_its_end_is_refused_even_where_pillow_fills_with_grey() -> None:
    for options in ({}, {"progressive": True}):
        data = encode(photo(240, 320), "JPEG", **options)
        for cut in (data[:-2], data[: len(data) // 2] + b"\xff\xd9", data[:-40] + b"\0" * 4000):
            assert refused(cut).code == "image.truncated"


def test_harmless_oddities_of_a_jpeg_lose_no_photo() -> None:
    data = encode(photo(), "JPEG")
    expected = decode(data)
    trailing = data + b"appended by a phone" * 10
    fill_bytes = data[:2] + b"\xff\xff\xff" + data[2:]
    stray_bytes = data[:-2] + b"\0\0\0" + data[-2:]
    for odd in (trailing, fill_bytes, stray_bytes):
        np.testing.assert_array_equal(decode(odd), expected)


@pytest.mark.parametrize(
    "header",
    [
        png_header(30_000, 30_000),
        b"GIF89a" + struct.pack("<HH", 30_000, 30_000) + b"\0" * 20,
        b"BM" + b"\0" * 12 + struct.pack("<Iii", 40, 30_000, -30_000) + b"\0" * 40,
        b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x2f\x75\0\x2f\x75\0" + b"\0" * 10,
        b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", 30_000, 30_000) + b"\x03" + b"\0" * 9,
        b"II*\0\x08\0\0\0\x02\0"
        + struct.pack("<HHII", 256, 4, 1, 30_000)
        + struct.pack("<HHII", 257, 4, 1, 30_000),
    ],
    ids=["png", "gif", "bmp", "webp", "jpeg", "tiff"],
)
def test_the_pixel_limit_holds_before_anything_is_allocated(header: bytes) -> None:
    tracemalloc.start()
    try:
        error = refused(header, 178_956_970)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.code == "image.too_large"
    assert "30,000 x 30,000" in error.message
    assert peak < 100_000


def test_the_pixel_limit_is_inclusive() -> None:
    data = encode(photo(), "PNG")
    assert decode(data, HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    assert refused(data, HEIGHT * WIDTH - 1).code == "image.too_large"


def samples() -> list[bytes]:
    image = photo()
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        encode(image, "JPEG", exif=exif),
        encode(image, "JPEG", progressive=True),
        encode(image.convert("CMYK"), "JPEG"),
        encode(image, "PNG", exif=exif),
        encode(image.quantize(16), "PNG", transparency=2),
        encode(image, "BMP"),
        encode(image.quantize(16), "GIF"),
        encode(image, "WEBP", exif=exif),
        encode(image, "WEBP", lossless=True),
        encode(image, "TIFF", exif=exif),
        encode(image, "TIFF", compression="tiff_lzw"),
        encode(image, "TIFF", compression="tiff_deflate"),
        encode(image, "TIFF", compression="jpeg"),
        encode(image.convert("1"), "TIFF", compression="group4"),
        encode(image, "TIFF", big_tiff=True),
    ]


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    broken = bytearray(data)
    kind = rng.integers(0, 3)
    if kind == 0:
        return bytes(broken[: rng.integers(0, len(broken))])
    reach = len(broken) if kind == 1 else min(len(broken), 150)
    for at in rng.integers(0, reach, 4):
        broken[at] = rng.integers(0, 256)
    return bytes(broken)


def test_damaged_bytes_raise_only_image_errors_and_print_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    rng = np.random.default_rng(0)
    outcomes: Counter[str] = Counter()
    for data in samples():
        for _ in range(60):
            broken = damage(data, rng)
            try:
                image = decode(broken, 10**6)
            except ImageError as error:
                outcomes[error.code] += 1
                continue
            outcomes["decoded"] += 1
            assert image.dtype == np.uint8
            assert image.ndim == 3
    assert set(outcomes) <= CODES | {"decoded"}
    assert outcomes["image.truncated"] > 100
    assert outcomes["image.corrupt"] > 100
    assert capfd.readouterr() == ("", "")


def test_pillow_logs_and_warns_nothing_in_a_bare_process() -> None:
    code = """
import sys, warnings
from autofocus.data.images.decode import decode
from autofocus.errors import ImageError
warnings.simplefilter("always")
try:
    decode(sys.stdin.buffer.read())
except ImageError as error:
    print(error.code)
"""
    tiff = bytearray(encode(photo(), "TIFF"))
    at = tiff.index(struct.pack("<HH", 277, 3))  # SamplesPerPixel, which Pillow logs about
    tiff[at + 8 : at + 12] = struct.pack("<I", 900)
    done = subprocess.run(
        [sys.executable, "-c", code], input=bytes(tiff), capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "image.corrupt"
    assert done.stderr == b""


def test_threads_decode_at_the_same_time() -> None:
    data = samples()
    expected = [decode(item) for item in data]
    problems: list[str] = []

    def work() -> None:
        for _ in range(5):
            for item, want in zip(data, expected, strict=True):
                if not np.array_equal(decode(item), want):
                    problems.append("different pixels")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_scans_of_a_jpeg_are_limited_by_its_pixels_and_at_all() -> None:
    assert decode(many_scans(64, 100), 64 * 64 * 10).shape == (64, 64, 3)
    assert "more than 160 scans" in refused(many_scans(64, 200), 64 * 64 * 10).message
    assert "more than 256 scans" in refused(many_scans(64, 300)).message


def test_scans_after_a_jpeg_and_in_its_thumbnail_do_not_count() -> None:
    data = encode(photo(), "JPEG")
    film = data + b"\xff\xda\0" * 1000
    thumbnail = data[:2] + segment(0xE2, b"\xff\xda\0" * 1000) + data[2:]
    for odd in (film, thumbnail):
        assert np.array_equal(decode(odd, WIDTH * HEIGHT), decode(data))


def test_a_side_is_limited_whatever_the_pixels() -> None:
    error = refused(png_header(1, 70_000))
    assert (error.code, "65,535" in error.message) == ("image.too_large", True)
    assert "600,000 are allowed in a WEBP image" in refused(encode(photo(800, 800), "WEBP")).message
    deep = encode(Image.new("I;16", (900, 900)), "TIFF")
    assert "700,000 are allowed in a 16-BIT TIFF image" in refused(deep).message
    deep = encode(Image.new("I;16", (900, 900)), "PNG")
    assert "700,000 are allowed in a 16-BIT PNG image" in refused(deep).message
    cmyk = encode(photo(900, 900).convert("CMYK"), "JPEG")
    assert "800,000 are allowed in a CMYK image" in refused(cmyk).message


PNG_START = encode(Image.new("L", (8, 8)), "PNG")[:33]
GIF_START = b"GIF89a" + struct.pack("<HH", 10, 10) + b"\0\0\0"
TAGS_THAT_SHARE = (
    b"II*\0\x08\0\0\0"
    + struct.pack("<H", 300)
    + b"".join(struct.pack("<HHII", tag, 7, 3_000, 0) for tag in range(256, 556))
)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff\xe2\0\2" * 70_000,
        PNG_START + b"\0\0\0\0abCd\0\0\0\0" * 70_000,
        b"RIFF"
        + struct.pack("<I", 800_022)
        + b"WEBPVP8X\x0a"
        + b"\0" * 13
        + b"abcd\0\0\0\0" * 100_000,
        GIF_START + b"!\xfe\0" * 70_000,
        GIF_START + b"!\xfe" + b"\1!" * 70_000,
        TAGS_THAT_SHARE + bytes(4_000),
    ],
)
def test_files_of_countless_parts_are_refused(data: bytes) -> None:
    error = refused(data)
    assert error.code == "image.corrupt"
    assert "65,536" in error.message or "more than the file holds" in error.message


def test_a_tiff_of_tiles_far_larger_than_itself_is_refused() -> None:
    tags = ((256, 10), (257, 10), (322, 40_000), (323, 40_000))
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    data += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)
    error = refused(data)
    assert (error.code, "tiles are far larger" in error.message) == ("image.corrupt", True)


def test_a_failed_decode_keeps_nothing_but_its_words() -> None:
    broken = encode(photo(400, 400), "PNG")[:-900]
    errors = [refused(broken, 400 * 400) for _ in range(2)]
    error = errors[0]
    assert error.__cause__ is None
    assert error.__context__ is None
    held = error.__traceback__
    while held is not None:
        assert not any(isinstance(v, Image.Image) for v in held.tb_frame.f_locals.values())
        held = held.tb_next


def test_converting_needs_no_second_copy_of_the_image() -> None:
    data = encode(Image.new("RGB", (2_000, 2_000)), "PNG")
    tracemalloc.start()
    decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The result, and a strip; Pillow's own image is not counted.
    assert peak < 1.4 * 2_000 * 2_000 * 3
