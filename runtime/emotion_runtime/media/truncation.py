"""Tell from the structure of a file whether its end is missing.

The length that a header states is no proof: files that were cut without re-encoding hide frames, and streams
begin in the middle of something. Sizes of boxes, chunks and blocks are exact.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_EBML_SEGMENT = 0x18538067
_MP4_CONTENT = {b"mdat", b"moov", b"moof"}  # what follows them may be anything, such as a phone's own data
_FLV_TAGS = (8, 9, 18)  # sound, video, script
_GIF_IMAGE, _GIF_EXTENSION = 0x2C, 0x21


def missing_part(path: Path | str, kind: str) -> str | None:
    """Return how much of a file is there if its end is missing, such as "90 of 120 bytes"; otherwise None.

    Args:
        path: A file.
        kind: FFmpeg's name of its format. Formats without a structure, such as MPEG-TS, are never truncated.
    """
    measure = next((function for name, function in _SIZES.items() if name in kind.split(",")), None)
    if measure is None:
        return None
    with Path(path).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        whole = measure(file, size)
    if whole <= size:
        return None
    return f"{size} of {whole} bytes" if whole < _UNKNOWN else f"it ends within an image after {size} bytes"


def has_late_index(start: bytes) -> bool:
    """Return whether the content of an MP4 comes before its index, which a pipe, read once, cannot give.

    Args:
        start: The first bytes of the file. If they hold neither, the result is False.
    """
    position = 0
    while position + 8 <= len(start):
        header = start[position : position + 8]
        length, box = int.from_bytes(header[:4], "big"), header[4:]
        if box in _MP4_CONTENT or length < 8:
            return box == b"mdat"
        position += length
    return False


_UNKNOWN = 1 << 63


def _mp4_size(file: BinaryIO, size: int) -> int:
    """Return the end of the last box with content; boxes begin with their size (ISO 14496-12, 4.2)."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, smallest = int.from_bytes(header[:4], "big"), 8
        if length == 1:  # a 64-bit size follows the type
            length, smallest = int.from_bytes(header[8:16], "big"), 16
        if length == 0:  # up to the end of the file
            return size
        if length < smallest:  # not a box: FFmpeg reads no further, either
            return size
        position += length
        if position > size and header[4:8] in _MP4_CONTENT:
            return position
    return size


def _riff_size(file: BinaryIO, size: int) -> int:
    """Return the end of the last RIFF chunk; a large AVI has several."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(8)
        length = int.from_bytes(header[4:], "little")
        if header[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # the writer could not go back to the header
            return size
        position += 8 + length + length % 2
    return position if position != size + 1 else size  # the last padding byte may be missing


def _matroska_size(file: BinaryIO, size: int) -> int:
    """Return the end of the segment (RFC 8794); that of a live recording has no size."""
    position = 0
    while position < size:
        file.seek(position)
        header = file.read(12)
        width = _vint_width(header[:1])
        length_width = _vint_width(header[width : width + 1])
        field = header[width : width + length_width]
        if not 1 <= width <= 4 or not 1 <= length_width <= 8 or len(field) < length_width:
            return size
        length = int.from_bytes(field, "big") & ((1 << (7 * length_width)) - 1)
        if length == (1 << (7 * length_width)) - 1:  # unknown
            return size
        position += width + length_width + length
        if int.from_bytes(header[:width], "big") == _EBML_SEGMENT:
            return position
    return size


def _vint_width(first: bytes) -> int:
    """Return how many bytes a number has, from its first byte: one more than that byte's leading zeros."""
    return 9 - first[0].bit_length() if first else 0


def _asf_size(file: BinaryIO, size: int) -> int:
    """Return the end of the last object of a WMV file; objects begin with a GUID and their size."""
    position = 0
    while position + 24 <= size:
        file.seek(position + 16)
        length = int.from_bytes(file.read(8), "little")
        if length < 24:  # of a live recording
            return size
        position += length
    return position


def _flv_size(file: BinaryIO, size: int) -> int:
    """Return the end of the last tag."""
    header = file.read(9)
    position = int.from_bytes(header[5:9], "big") + 4
    while position + 11 <= size:
        file.seek(position)
        tag = file.read(4)
        if tag[0] not in _FLV_TAGS:
            return size
        position += 11 + int.from_bytes(tag[1:], "big") + 4
    return position if position > size + 4 else size  # the length of the last tag may be missing behind it


def _ogg_size(file: BinaryIO, size: int) -> int:
    """Return the end of the last page (RFC 3533)."""
    position = 0
    while position + 27 <= size:
        file.seek(position)
        header = file.read(27)
        if header[:4] != b"OggS":
            return size
        segments = file.read(header[26])
        position += 27 + len(segments) + sum(segments)
    return position


def _gif_size(file: BinaryIO, size: int) -> int:
    """Return the size if all blocks are complete, with or without the trailer; otherwise an unknown size."""
    header = file.read(13)
    file.seek(_color_table(header[10:11]), 1)
    while kind := file.read(1):
        if kind[0] == _GIF_IMAGE:
            descriptor = file.read(9)
            file.seek(_color_table(descriptor[8:9]) + 1, 1)  # and the smallest code size
        elif kind[0] == _GIF_EXTENSION:
            file.seek(1, 1)
        else:  # the trailer, or something that no decoder reads
            return size
        while length := file.read(1):
            if length[0] == 0:
                break
            file.seek(length[0], 1)
        else:
            return _UNKNOWN
    return size


def _color_table(flags: bytes) -> int:
    """Return the size of a colour table in bytes."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


# By FFmpeg's name of the format.
_SIZES: dict[str, Callable[[BinaryIO, int], int]] = {
    "mov": _mp4_size,
    "avi": _riff_size,
    "matroska": _matroska_size,
    "gif": _gif_size,
    "asf": _asf_size,
    "flv": _flv_size,
    "ogg": _ogg_size,
}
