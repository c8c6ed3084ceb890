"""The files of the page, read into memory once: no path of a request touches the disk."""

from dataclasses import dataclass
from pathlib import Path

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOLDER = Path(__file__).parent / "static"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of the page.

    Attributes:
        path: Path of its URL.
        content: Its bytes.
        media_type: Its type.
    """

    path: str
    content: bytes
    media_type: str


def static_files() -> list[StaticFile]:
    """Return all files of the page; index.html is at `/`."""
    return [
        StaticFile(
            "/" if file.name == "index.html" else f"/{file.name}", file.read_bytes(), _TYPES[file.suffix]
        )
        for file in sorted(_FOLDER.iterdir())
        if file.suffix in _TYPES
    ]
