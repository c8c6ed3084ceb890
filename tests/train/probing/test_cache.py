"""Kept features are read again only if they are whole and of the very same origin."""

import errno
import logging
import os
from collections.abc import Iterator
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.datasets.base import Dataset, Sample, SampleImage
from emotion_train.probing.cache import Cached, CacheKey, cached
from emotion_train.probing.samples import fingerprint, protocol_spec

KEY = CacheKey("ab" * 32, PreprocessSpec(), "video", "meld", "dev", 5, "cd" * 32)
ROWS = np.array([0, 1, 4])
FEATURES = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)


class Counted:
    """Computes the features, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Cached:
        self.calls += 1
        return ROWS, FEATURES


@pytest.fixture
def compute() -> Counted:
    return Counted()


def read(folder: Path, compute: Counted, key: CacheKey = KEY) -> list[str]:
    """Read or compute the features, and return the messages of doing so."""
    logger, handler = logging.getLogger("emotion_train.probing.cache"), BufferingHandler(100)
    logger.addHandler(handler)
    try:
        rows, features = cached(folder, key, compute)
    finally:
        logger.removeHandler(handler)
    np.testing.assert_array_equal(rows, ROWS)
    np.testing.assert_array_equal(features, FEATURES)
    assert features.dtype == np.float32
    return [record.getMessage() for record in handler.buffer]


def test_the_second_time_nothing_is_computed(tmp_path: Path, compute: Counted):
    folder = tmp_path / "kept" / "features"
    assert read(folder, compute) == read(folder, compute) == []
    assert compute.calls == 1
    assert [path.name for path in folder.iterdir()] == [KEY.path(folder).name]  # nothing half-written


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint_sha256": "00" * 32},
        {"preprocess": PreprocessSpec(short_side=224)},
        {"kind": "image"},
        {"dataset": "bold"},
        {"split": "test"},
        {"samples": 6},
        {"fingerprint": "00" * 32},
    ],
)
def test_another_origin_is_another_file(change: dict[str, Any], tmp_path: Path, compute: Counted):
    other = msgspec.structs.replace(KEY, **change)
    read(tmp_path, compute)
    assert read(tmp_path, compute, other) == []
    assert compute.calls == 2
    # A file that was copied to this name by hand is not believed.
    KEY.path(tmp_path).write_bytes(other.path(tmp_path).read_bytes())
    (line,) = read(tmp_path, compute)
    assert f"have another {next(iter(change))}: computing them again" in line
    assert compute.calls == 3
    assert read(tmp_path, compute) == []


@pytest.mark.parametrize("share", [0, 0.1, 0.99])
def test_a_truncated_file_is_computed_again_with_a_warning(share: float, tmp_path: Path, compute: Counted):
    read(tmp_path, compute)
    path = KEY.path(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    (line,) = read(tmp_path, compute)
    assert line.startswith(f"cached features {path} cannot be read")
    assert compute.calls == 2
    assert path.read_bytes() == content


def test_invalid_values_are_computed_again(tmp_path: Path, compute: Counted):
    cached(tmp_path, KEY, lambda: (ROWS, FEATURES * np.inf))
    (line,) = read(tmp_path, compute)
    assert "hold invalid values" in line


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("emotion_runtime.files.os.fsync", fail)
    return


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_nothing(tmp_path: Path, compute: Counted):
    with pytest.raises(EmotionError, match=r"cannot be written \(No space left on device\): free disk"):
        cached(tmp_path, KEY, compute)
    assert not list(tmp_path.iterdir())


def dataset(**changes: Any) -> Dataset:
    part: dict[str, Any] = {
        "key": "a",
        "path": Path("/data/frames/dia0/frame_1.jpg"),
        "boxes": ((0.0, 1.0, 2.0, 3.0),),
        "seconds": None,
    } | changes
    picture = SampleImage(part["path"], part["boxes"], part["seconds"])
    return Dataset("meld", "dev", (), (Sample(part["key"], "g", (picture,), {}),), {})


@pytest.mark.parametrize(
    "change",
    [{"key": "b"}, {"boxes": ()}, {"seconds": 1.5}, {"path": Path("/data/frames/dia0/frame_2.jpg")}],
)
def test_the_fingerprint_depends_on_what_is_encoded(change: dict[str, Any]):
    assert fingerprint(dataset(**change)) != fingerprint(dataset())


def test_the_fingerprint_does_not_depend_on_the_folder():
    assert fingerprint(dataset(path=Path("/other/frames/dia0/frame_1.jpg"))) == fingerprint(dataset())


def test_the_fingerprint_depends_on_the_content_of_files(tmp_path: Path):
    image = tmp_path / "frames" / "dia0" / "frame_1.jpg"
    missing = fingerprint(dataset(path=image))
    image.parent.mkdir(parents=True)
    image.write_bytes(b"half a file")
    half = fingerprint(dataset(path=image))
    assert half == fingerprint(dataset(path=image))
    image.write_bytes(b"half a file and the rest")
    whole = fingerprint(dataset(path=image))
    os.utime(image, ns=(0, 12345))  # another image of the same size
    assert len({missing, half, whole, fingerprint(dataset(path=image))}) == 4


@pytest.mark.parametrize(("size", "short_side"), [(224, 224), (128, 128), (448, 448)])
def test_a_short_side_is_scaled_with_the_input(size: int, short_side: int):
    spec = PreprocessSpec(size=size, short_side=2 * size)
    emotic = Dataset("emotic", "val", (), (), {}, short_side=224)
    assert protocol_spec(spec, emotic).short_side == short_side
    assert protocol_spec(spec, dataset()) == spec
