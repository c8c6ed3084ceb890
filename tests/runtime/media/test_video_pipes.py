"""Where a video comes from: files with any name, pipes, and files that grow."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_reads import read

from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.media.truncation import has_late_index
from emotion_runtime.sources import open_source
from made_videos import RATE, SIZE, ffmpeg, greys, write_images

NAMES = [
    "cam1-10:30.mp4",
    "12:30:00.mp4",
    "%03d.mp4",
    "a[1]*?.mp4",
    "-x.mp4",
    "a#b&c.mp4",
    "caf\udce9.mp4",
    "喜悦 .mp4",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_file_works(
    tmp_path: Path, base: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(base.read_bytes())
    frames = read(name)
    assert len(frames) == 100
    assert frames[0].source == name


def test_named_pipe(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(stream,))
    writer.start()
    assert len(read(path)) == 100
    writer.join()


def through_pipe(tmp_path: Path, data: bytes) -> str:
    """Return the message about data that a named pipe brings."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,), daemon=True)
    writer.start()
    with pytest.raises(SourceBroken) as caught:
        read(path)
    writer.join()
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_an_mp4_with_its_index_at_the_end_is_not_called_corrupt(
    tmp_path: Path, base: Path, suffix: str
) -> None:
    file = tmp_path / f"late.{suffix}"
    ffmpeg("-i", base, "-c", "copy", file)
    assert len(read(file)) == 100
    message = through_pipe(tmp_path, file.read_bytes())
    assert "failed before its first frame: the file has its index at its end" in message
    assert "give the file itself, or write it with ffmpeg ... -movflags +faststart" in message
    assert "corrupt" not in message


def test_an_mp4_with_its_index_first_is_read_and_damage_in_it_is_damage(tmp_path: Path, base: Path) -> None:
    file = tmp_path / "early.mp4"
    ffmpeg("-i", base, "-c", "copy", "-movflags", "+faststart", file)
    data = file.read_bytes()
    assert "is corrupt" in through_pipe(tmp_path, data[: len(data) // 2])
    os.mkfifo(tmp_path / "whole")
    writer = threading.Thread(target=(tmp_path / "whole").write_bytes, args=(data,))
    writer.start()
    assert len(read(tmp_path / "whole")) == 100
    writer.join()


@pytest.mark.parametrize(
    ("boxes", "late"),
    [
        ([b"ftyp", b"mdat"], True),
        ([b"ftyp", b"free", b"mdat", b"moov"], True),
        ([b"ftyp", b"moov", b"mdat"], False),
        ([b"moof", b"mdat"], False),
        ([b"ftyp"], False),
        ([], False),
    ],
)
def test_where_the_index_of_an_mp4_is(boxes: list[bytes], late: bool) -> None:
    assert has_late_index(b"".join(b"\0\0\0\x0c" + box + b"...." for box in boxes)) is late


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
@pytest.mark.parametrize("piped", [True, False])
def test_standard_input(base: Path, stream: bytes, name: str, piped: bool) -> None:
    program = f"from emotion_runtime.sources import open_source; print(len(list(open_source({name!r}))))"
    command = [sys.executable, "-c", program]
    if piped:
        done = subprocess.run(command, input=stream, capture_output=True, check=True)
    else:  # an MP4 whose index is at its end
        with base.open("rb") as file:
            done = subprocess.run(command, stdin=file, capture_output=True, check=True)
    assert done.stdout.split() == [b"100"]


def test_pipe_that_nobody_writes_to_obeys_stop(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    started = time.monotonic()
    with open_source(tmp_path / "pipe", stop=stop) as source:
        assert list(source) == []
    assert time.monotonic() - started < 3


def test_playlist_in_a_pipe_opens_nothing(tmp_path: Path, base: Path) -> None:
    """Neither a file nor a connection: what comes through a pipe is not trusted."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile:{base}\n#EXT-X-ENDLIST\n"
    writer = threading.Thread(target=path.write_text, args=(playlist,), daemon=True)
    writer.start()
    with pytest.raises(EmotionError):
        read(path)


def test_growing_file_is_followed_until_it_is_stopped(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "growing.ts"
    half = len(stream) // 2
    path.write_bytes(stream[:half])

    def grow() -> None:
        time.sleep(0.4)
        with path.open("ab") as file:
            file.write(stream[half:])
        time.sleep(2)
        source.stop()

    source = open_source(path, follow=True)
    writer = threading.Thread(target=grow)
    writer.start()
    with source:
        assert len(list(source)) == 100
    writer.join()


def test_photo_is_not_followed(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.zeros((20, 30, 3), np.uint8))
    with open_source(tmp_path / "photo.jpg", follow=True) as source:
        assert [frame.still for frame in source] == [True]


@pytest.mark.parametrize("name", ["camera.mjpeg", "camera.MJPG"])
def test_motion_jpeg_without_a_container_is_a_video(tmp_path: Path, name: str) -> None:
    images = greys((10, 120, 230), SIZE)
    path = write_images(tmp_path / "camera.mjpeg", images, RATE, codec="mjpeg", pixels="yuvj420p")
    path.rename(tmp_path / name)
    for source in (tmp_path / name, tmp_path):  # also one of a folder
        with open_source(source) as frames:
            assert [round(frame.image.mean(), -1) for frame in frames] == [10, 120, 230]


def test_a_finished_mp4_cannot_be_followed(tmp_path: Path, base: Path) -> None:
    path = tmp_path / "finished.mp4"  # with its index at the end
    ffmpeg("-i", str(base), "-c", "copy", str(path))
    source = open_source(path, follow=True)
    threading.Timer(0.5, source.stop).start()
    with source, pytest.raises(EmotionError, match=r"--follow needs \.ts, \.mkv or fragmented \.mp4"):
        list(source)


def test_growing_file_ends_when_it_is_deleted(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "growing.ts"
    path.write_bytes(stream)
    source = open_source(path, follow=True)
    path.unlink()
    with source:
        assert len(list(source)) == 100
