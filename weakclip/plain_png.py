"""The pixels of a plain PNG, the kind that masks are: palette or grey, 8 bits, neither filtered nor interlaced.

Of an evaluation of masks nearly all the time is decoding, and most of that is PIL's care for all that a picture may be. What
is read here takes inflating alone; everything else, damaged files included, is left to PIL.

PNG specification, third edition (W3C 2025), sections 5 (chunks), 9 (filters) and 10 (compression).
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
HEADER: Final = struct.Struct(">IIBBBBB")  # width, height, bits, colours, compression, filters, interlacing
LENGTH_AND_KIND: Final = struct.Struct(">I4s")
CHECKSUM: Final = struct.Struct(">I")
PLAIN: Final = ((8, 0, 0, 0, 0), (8, 3, 0, 0, 0))  # grey, palette


def decode_plain_png(content: bytes, largest_pixels: int) -> NDArray[np.uint8] | None:
    """(H, W) uint8 values or palette indices, read-only, or None for any other file or one in which something is amiss.

    ``largest_pixels``: of pictures with more pixels nothing is decompressed.
    """
    chunks = read_chunks(content)
    if chunks is None or len(header := chunks[0]) != HEADER.size:
        return None
    width, height, *kind = HEADER.unpack(header)
    if tuple(kind) not in PLAIN or not 0 < width * height <= largest_pixels:
        return None
    length = height * (width + 1)  # a byte before each line says how it is filtered
    # Without zlib's own header and checksum, a third of the time: those of the chunks have vouched for every byte.
    inflater = isal_zlib.decompressobj(-isal_zlib.MAX_WBITS)
    try:
        lines = inflater.decompress(memoryview(chunks[1])[2:], length + 1)
    except isal_zlib.error:  # type: ignore[misc]  # the class, which its stub takes for an instance
        return None
    if len(lines) != length or len(inflater.unused_data) != CHECKSUM.size:
        return None
    picture = np.frombuffer(lines, np.uint8).reshape(height, width + 1)
    return None if picture[:, 0].any() else picture[:, 1:]


def read_chunks(content: bytes) -> tuple[bytes, bytes] | None:
    """The header and the compressed pixels of a PNG file, or None if it is cut off or a checksum does not match."""
    if not content.startswith(SIGNATURE):
        return None
    header, pixels, place = b"", [], len(SIGNATURE)
    while place + LENGTH_AND_KIND.size + CHECKSUM.size <= len(content):
        length, kind = LENGTH_AND_KIND.unpack_from(content, place)
        start = place + LENGTH_AND_KIND.size
        end = start + length
        if end + CHECKSUM.size > len(content):
            return None
        if isal_zlib.crc32(memoryview(content)[start - len(kind) : end]) != CHECKSUM.unpack_from(content, end)[0]:
            return None
        if kind == b"IHDR":
            header = content[start:end]
        elif kind == b"IDAT":
            pixels.append(content[start:end])
        elif kind == b"IEND":
            return header, b"".join(pixels)
        place = end + CHECKSUM.size
    return None
