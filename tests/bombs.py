"""Small bodies that inflate to a gibibyte of zeros, one for every encoding."""

import struct
import zlib
from collections.abc import Callable

import cramjam

GIB = 1024**3
_PIECE = bytes(16 * 1024**2)


def zstd() -> bytes:
    """Blocks that say "128 KiB of this byte" (RFC 8878, 3.1.1), and a window of 128 MiB."""
    block = 128 * 1024
    window = 17 << 3  # 2^(10 + 17) bytes
    magic = b"\x28\xb5\x2f\xfd\x00" + bytes([window])
    repeated, last = ((is_last | 1 << 1 | block << 3).to_bytes(3, "little") for is_last in (0, 1))
    return magic + (repeated + b"\0") * (GIB // block - 1) + last + b"\0"


def raw_deflate() -> bytes:
    """A piece that stands alone after a full flush, again and again."""
    compressor = zlib.compressobj(9, wbits=-15)
    piece = compressor.compress(_PIECE) + compressor.flush(zlib.Z_FULL_FLUSH)
    return piece * (GIB // len(_PIECE)) + compressor.flush(zlib.Z_FINISH)


def deflate() -> bytes:
    checksum = 1
    for _ in range(GIB // len(_PIECE)):
        checksum = zlib.adler32(_PIECE, checksum)
    return b"\x78\xda" + raw_deflate() + struct.pack(">I", checksum)


def gzip() -> bytes:
    checksum = 0
    for _ in range(GIB // len(_PIECE)):
        checksum = zlib.crc32(_PIECE, checksum)
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    return head + raw_deflate() + struct.pack("<II", checksum, GIB % 2**32)


def brotli() -> bytes:
    return bytes(cramjam.brotli.compress(bytes(GIB), level=1))


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": gzip,
    "zstd": zstd,
    "deflate": deflate,
    "br": brotli,
}
