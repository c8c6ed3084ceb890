"""The syntax of a source: `[NAME=]URI`."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import with_home
from emotion_runtime.sources.files import expand, is_pattern
from emotion_runtime.sources.network_address import PORTS

SourceKind = Literal["file", "demo", "camera", "gstreamer", "network"]

SUPPORTED = (
    "a video or photo, a folder or pattern of them, `-` for standard input, `demo`, a camera number, or a "
    "URI that begins with v4l2:, rtsp:, rtsps:, http:, https:, csi: or gst:"
)
_SCHEMES: dict[str, SourceKind] = {
    "v4l2": "camera",
    "csi": "gstreamer",
    "gst": "gstreamer",
    "rtsp": "network",
    "rtsps": "network",
    "http": "network",
    "https": "network",
}
NAME = r"\w[\w .-]*"
_NETWORK = re.compile(rf"(?:({NAME})=)?((?:rtsps?|https?)://.*)", re.DOTALL | re.IGNORECASE)
_LONGEST = 200  # bytes of a name; a file name has 255


@dataclass(frozen=True, slots=True)
class Address:
    """Where a source is.

    Attributes:
        name: Name of the source. It never holds a password.
        kind: What opens it.
        uri: The rest of the text. It may hold a password: never print it.
        named: The user gave the name.
    """

    name: str
    kind: SourceKind
    uri: str = field(repr=False)
    named: bool = False

    @property
    def live(self) -> bool:
        """Whether the source is a device or a stream, and is opened again when it is lost."""
        return self.kind in ("camera", "gstreamer", "network")


def is_network(text: str) -> bool:
    """Return whether a text is [NAME=]URI with the URI of a network camera, without a look at the disk."""
    return _NETWORK.fullmatch(text) is not None


def parse_source(text: str | int | Path) -> Address:
    """Return the address that a text, a path or a camera number stands for.

    NAME consists of letters, digits, spaces and `_.-`, and begins with a letter or digit. What exists as a
    file, or as a pattern of files, has no name in it: `a=b.mp4` opens the file of this name. The address of a
    network camera is never a file, and nothing is looked up on the disk for it.

    Raises:
        EmotionError: The text is none of these. The message holds no part of a URI.
    """
    if not isinstance(text, str | int | Path) or isinstance(text, bool):
        raise EmotionError(f"the source is of type {type(text).__name__}; give {SUPPORTED}")
    if isinstance(text, Path):
        return Address(str(text), "file", str(text))
    uri, name = str(text), ""
    if network := _NETWORK.fullmatch(uri):
        name, uri = (network[1] or "").strip(), network[2]
    elif not _is_file(uri):
        match = re.fullmatch(rf"({NAME})=(.*)", uri, re.DOTALL)
        if match:
            name, uri = match[1].strip(), match[2]
    uri = with_home(uri)
    if not uri:
        raise EmotionError(f"the source is an empty string; give {SUPPORTED}")
    if re.fullmatch(r"/dev/(video\d+|v4l/[^?]+)(\?.*)?", uri):
        uri = f"v4l2://{uri}"
    kind = _kind(uri)
    address = Address(name or _default_name(uri, kind), kind, uri, named=bool(name))
    if (address.named or address.live) and len(address.name.encode()) > _LONGEST:
        raise EmotionError(
            f"a source has a name of {len(address.name)} characters; files are named after it: give a "
            "shorter one with NAME=URI"
        )
    return address


def parse_sources(texts: Iterable[str | int | Path]) -> list[Address]:
    """Return the addresses of the sources of one run; each has a name of its own.

    Where default names are equal, as of two streams of one host, the later ones end in -2, -3, and so on.

    Raises:
        EmotionError: See `parse_source`; or two sources have the same name, or are the same.
    """
    addresses: list[Address] = []
    for address in map(parse_source, texts):
        for other in addresses:
            if same_target(address, other):
                names = " and ".join(dict.fromkeys((other.name, address.name)))
                raise EmotionError(f"a source is given twice ({names}): give each once")
        taken = {other.name for other in addresses}
        name = address.name
        if address.live and not address.named:
            number = 1
            while name in taken:
                number += 1
                name = f"{address.name}-{number}"
        elif name in taken:
            raise EmotionError(f"two sources have the name {name}: give each its own with NAME=URI")
        addresses.append(Address(name, address.kind, address.uri, address.named))
    return addresses


def name_of_file(address: Address, path: Path) -> str:
    """Return the name of a file of a source in all results.

    Args:
        address: The source: a file, a folder or a pattern.
        path: The file, as `expand` returns it.

    Returns:
        Its path; if the user gave the source a name, that name, and for a file of a folder or pattern
        NAME/FILE.
    """
    if not address.named:
        return str(path)
    folder = Path(address.uri)
    if folder.is_dir():
        return f"{address.name}/{path.relative_to(folder)}"
    return f"{address.name}/{path}" if is_pattern(address.uri) else address.name


def _is_file(text: str) -> bool:
    try:
        return Path(text).exists() or (is_pattern(text) and bool(expand(text)))
    except (EmotionError, OSError, ValueError):  # no file matches; too long or not a path at all
        return False


def _kind(uri: str) -> SourceKind:
    """Return what opens a URI.

    Raises:
        EmotionError: Its scheme is unknown or incomplete.
    """
    if uri == "demo":
        return "demo"
    if re.fullmatch(r"-?\d+", uri):
        return "camera"
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?", uri)
    kind = _SCHEMES.get(scheme[1].lower()) if scheme else None
    if scheme and scheme[2] and kind == "network":
        return kind
    if _is_file(uri):
        return "file"
    if scheme and kind:
        if scheme[2] is None and scheme[1].lower() != "gst":
            raise EmotionError(f"a source begins with {scheme[0]}; expected {scheme[1]}:// and an address")
        return kind
    if scheme and scheme[2]:
        raise EmotionError(f"a source begins with {scheme[0]}, which is not supported; give {SUPPORTED}")
    if "://" in uri:
        raise EmotionError(
            "a source has :// but no scheme before it; expected [NAME=]URI, with a NAME of letters, digits, "
            f"spaces and _.-; give {SUPPORTED}"
        )
    if re.match(r"[^/\\\s]+:[^/\\\s]*@", uri):
        raise EmotionError("a source looks like USER:PASSWORD@HOST; begin it with rtsp:// or http://")
    return "file"  # also 12:30.mp4 and C:\film.mp4


def _default_name(uri: str, kind: SourceKind) -> str:
    """Return a name without path, user and password, all of which can be secret."""
    scheme = uri.partition(":")[0].lower()
    if kind == "network":
        return _host(uri, scheme)
    if scheme == "v4l2":
        return Path(urlsplit(uri).path).name or scheme
    if kind == "gstreamer":
        number = re.match(r"csi://\d+", uri, re.IGNORECASE)
        return f"{scheme}{number[0].rpartition('/')[2] if number else ''}"
    return uri


def _host(uri: str, scheme: str) -> str:
    """Return the host of an address.

    Raises:
        EmotionError: There is none, or it is not clear which part is the password.
    """
    try:
        parts = urlsplit(uri)
        host = parts.hostname
    except ValueError:
        host = None
    if not host:
        raise EmotionError(f"a source begins with {scheme}:// but has no host; expected {scheme}://HOST/PATH")
    if "@" in uri and ":" in parts.netloc and "@" not in parts.netloc:
        raise EmotionError(
            f"a source that begins with {scheme}:// has an @ behind /, ? or #; write these as %2F, %3F and "
            "%23 in a password, and @ as %40 in a path"
        )
    return host


def same_target(one: Address, other: Address) -> bool:
    """Return whether two addresses are two ways to write one file, camera or stream.

    Of a stream, the user, the password and the options do not count. That two hosts are one, or two streams
    are those of one camera, cannot be seen from their addresses.
    """
    return _target(one) == _target(other)


def _target(address: Address) -> str:
    if address.kind == "file" and address.uri != "-":
        return os.path.realpath(address.uri)
    if address.kind == "network":
        return _stream(address.uri)
    if address.kind != "camera":
        return address.uri
    return re.sub(r"^v4l2:///dev/video(\d+)(\?.*)?$", r"\1", address.uri)


def _stream(uri: str) -> str:
    """Return the address of a stream without what does not make it another one."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # not valid: opening it says so
        return uri
    place = parts.netloc.rpartition("@")[2].lower().removesuffix(f":{PORTS[parts.scheme]}")
    return f"{parts.scheme}://{place}{unquote(parts.path) or '/'}?{unquote(parts.query)}"
