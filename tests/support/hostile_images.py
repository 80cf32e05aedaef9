"""Image files that cost their reader far more than their bytes."""

import struct
import zlib


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that announces a size and has hardly any pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00" * 1_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def many_scans(side: int, num_scans: int) -> bytes:
    """Return a grey progressive JPEG whose scans are a few bytes long and change nothing."""
    tables = segment(0xC4, b"\0\1" + b"\0" * 15 + b"\0") + segment(
        0xC4, b"\x10\1" + b"\0" * 15 + b"\xe0"
    )
    frame = segment(0xDB, b"\0" + b"\1" * 64) + segment(
        0xC2, struct.pack(">BHHB3s", 8, side, side, 1, b"\1\x11\0")
    )
    scans = segment(0xDA, b"\1\1\0\0\0\0") + bytes((side // 8) ** 2 // 8)
    for scan in range(num_scans - 1):
        coefficient, bit = 1 + scan // 14, 13 - scan % 14
        precision = bit if bit == 13 else (bit + 1) << 4 | bit
        header = bytes((1, 1, 0, coefficient, coefficient, precision))
        scans += segment(0xDA, header) + b"\x7f" * 2
    return b"\xff\xd8" + frame + tables + scans + b"\xff\xd9"
