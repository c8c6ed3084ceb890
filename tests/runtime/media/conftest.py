"""A video of 4 s with sound, made once for all tests of media."""

from pathlib import Path

import pytest
from media_reads import read

from emotion_runtime.types import Frame
from made_videos import ffmpeg, make_base


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="session")
def base(folder: Path) -> Path:
    return make_base(folder / "base.mp4")


@pytest.fixture(scope="session")
def plain(base: Path) -> list[Frame]:
    return read(base)


@pytest.fixture
def stream(folder: Path, base: Path) -> bytes:
    path = folder / "stream.ts"
    if not path.exists():
        ffmpeg("-i", base, "-c", "copy", path)
    return path.read_bytes()
