"""Sources: every frame of intact files, clear messages for bad ones."""

import struct
from collections.abc import Generator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.sources import Source, expand, open_source
from emotion_runtime.types import Frame

CLIP = "intel_face-demographics-walking-and-pause.gif"


def drain(source: Source) -> tuple[list[Frame], str]:
    """Return the frames, and the message of the failure, if any."""
    frames = []
    try:
        with source:
            for frame in source:
                frames.append(replace(frame, image=frame.image[:1, :1]))  # noqa: PERF401 - kept after a failure
    except SourceBroken as error:
        return frames, str(error)
    return frames, ""


def write_video(
    path: Path, ticks: list[int], *, size: tuple[int, int] = (64, 48), codec: str = "libx264"
) -> Path:
    """Write one frame for every tick of 1/100 s, with increasing brightness."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for index, tick in enumerate(ticks):
            image = np.full((size[1], size[0], 3), 10 + 4 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = tick, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# --- files ---


@pytest.mark.parametrize("name", [CLIP, "mmtracking_demo.mp4", "vtest.avi"])
def test_frames_of_a_file_match_those_read_by_opencv(shared_data: Path, name: str) -> None:
    path = str(shared_data / "videos" / name)
    capture = cv2.VideoCapture(path)
    limit = 60
    with open_source(path) as source:
        for index, frame in enumerate(source):
            read, expected = capture.read()
            assert read
            assert (frame.index, frame.source, frame.dropped, frame.captured) == (index, path, 0, None)
            # Converters round differently; a swap of red and blue would differ by far more.
            assert np.abs(frame.image.astype(int) - expected).mean() < 2
            if index == limit:
                break
        else:
            assert not capture.read()[0]


def test_times_are_counted_from_the_first_frame(tmp_path: Path) -> None:
    ticks = [70, 74, 90, 91, 150, 300]
    frames, failure = drain(open_source(str(write_video(tmp_path / "uneven.mp4", ticks))))
    assert [frame.t for frame in frames] == pytest.approx([(tick - 70) / 100 for tick in ticks], abs=1e-3)
    assert failure == ""


def test_long_last_frame_is_not_a_truncation(tmp_path: Path) -> None:
    path = tmp_path / "slow.gif"
    images = [Image.new("RGB", (32, 32), (40 * i, 0, 0)) for i in range(4)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=[50, 50, 50, 5000])
    frames, failure = drain(open_source(str(path)))
    assert len(frames) == 4
    assert failure == ""


def test_rotated_recording_is_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :16] = 255  # white on the left
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    # The display matrix of the track header: rotate by 90 degrees clockwise (ISO 14496-12, 8.3.2).
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
    with open_source(str(path)) as source:
        turned = next(iter(source)).image
    np.testing.assert_allclose(turned, np.rot90(image, -1), atol=12)


def packets_before(path: Path, end: int) -> int:
    """Return the number of video packets that lie completely within the first `end` bytes."""
    with av.open(str(path)) as container:
        return sum(
            packet.pos is not None and packet.size > 0 and packet.pos + packet.size <= end
            for packet in container.demux(video=0)
        )


@pytest.mark.parametrize("part", [0.1, 0.4])
def test_truncated_avi_gives_every_complete_frame(shared_data: Path, tmp_path: Path, part: float) -> None:
    whole = shared_data / "videos" / "vtest.avi"
    data = whole.read_bytes()
    path = tmp_path / "cut.avi"
    end = int(part * len(data))
    path.write_bytes(data[:end])
    frames, failure = drain(open_source(str(path)))
    assert abs(packets_before(whole, end) - len(frames)) <= 1  # the last one may be incomplete
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert f"after frame {len(frames) - 1} ({frames[-1].t:.2f} s)" in failure
    assert f"truncated ({end} of {len(data)} bytes)" in failure
    assert "\n" not in failure


def test_truncated_mp4_gives_every_complete_frame(shared_data: Path, tmp_path: Path) -> None:
    whole = shared_data / "videos" / "intel_one-by-one-person-detection.mp4"
    data = whole.read_bytes()
    path = tmp_path / "cut.mp4"
    end = len(data) // 8  # its index is at the beginning
    path.write_bytes(data[:end])
    frames, failure = drain(open_source(str(path)))
    assert 0 <= packets_before(whole, end) - len(frames) <= 2  # those that depend on a later one
    assert f"after frame {len(frames) - 1} ({frames[-1].t:.2f} s)" in failure


def test_mp4_without_its_index_cannot_be_opened(shared_data: Path, tmp_path: Path) -> None:
    data = (shared_data / "videos" / "mmtracking_demo.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(EmotionError, match="index is missing"):
        open_source(str(path))


def test_partly_read_file_is_not_a_failure(shared_data: Path) -> None:
    source = open_source(str(shared_data / "videos" / "vtest.avi"))
    with source:
        assert next(iter(source)).index == 0
    assert list(source) == []
    source.close()


# --- photos ---


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "bmp", "tiff"])
def test_photo_is_a_single_still_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (64, 48), (200, 100, 40)).save(path)
    with open_source(path) as source:
        (frame,) = source
    assert (frame.source, frame.index, frame.t, frame.still) == (str(path), 0, 0.0, True)
    assert frame.image.shape == (48, 64, 3)
    np.testing.assert_allclose(frame.image[20, 20], (40, 100, 200), atol=12)  # GIF has few colours


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, red in (("image10.png", 10), ("image2.png", 2), ("Image1.PNG", 1), (".hidden.png", 9)):
        Image.new("RGB", (32, 32), (red, 0, 0)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a photo")
    (tmp_path / "more").mkdir()
    return tmp_path


def test_folder_gives_its_photos_in_natural_order(folder: Path) -> None:
    assert [path.name for path in expand(folder)] == ["Image1.PNG", "image2.png", "image10.png"]
    with open_source(folder) as source:
        frames = list(source)
    assert [int(frame.image[0, 0, 2]) for frame in frames] == [1, 2, 10]
    assert [frame.source for frame in frames] == [str(path) for path in expand(folder)]
    assert {(frame.index, frame.t, frame.still) for frame in frames} == {(0, 0.0, True)}


def test_pattern_gives_the_files_that_match(folder: Path) -> None:
    assert [path.name for path in expand(f"{folder}/*.png")] == ["image2.png", "image10.png"]
    Image.new("RGB", (32, 32)).save(folder / "image[2].png")
    assert [path.name for path in expand(f"{folder}/image[2].png")] == ["image[2].png"]  # it exists
    with pytest.raises(EmotionError, match="no file matches"):
        open_source(f"{folder}/*.jpg")


def test_photo_that_cannot_be_read_does_not_stop_the_others(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "image1.jpg").write_bytes(b"nothing")
    (folder / "image3.jpg").write_bytes(b"nothing")
    frames, failure = drain(open_source(folder))
    assert len(frames) == 3
    assert "image1.jpg: cannot be decoded" in failure
    # Each is named at once: the run may be stopped before its end.
    first, second = caplog.messages
    assert "image1.jpg: cannot be decoded" in first
    assert "image3.jpg: cannot be decoded" in second


# --- mistakes ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello world\n" * 40, "not a video|contains no video"),
        (bytes(range(256)) * 40, "not a video|contains no video"),
    ],
)
def test_files_that_are_not_videos(tmp_path: Path, content: bytes, message: str) -> None:
    for name in ("video.mp4", "video.avi", "video.txt"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EmotionError, match=message):
            open_source(str(tmp_path / name))


def test_audio_file_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "audio.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        audio = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        audio.sample_rate = 8000
        container.mux(stream.encode(audio))
    with pytest.raises(EmotionError, match="contains no video"):
        open_source(str(path))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("no/such/video.mp4", "no such file"),
        ("runtime", "no photo or video in the folder"),
        ("v4l2:///dev/null", "expected a number from 0 to 999999, v4l2"),
        (-1, "expected a number from 0 to 999999, v4l2"),
        (10**22, "expected a number from 0 to 999999, v4l2"),
        ("n" * 300 + "=rtsp://cam/1", "a name of 300 characters"),
        ("srt://example.org/a", "srt://, which is not supported"),
    ],
)
def test_missing_source_is_one_line(
    uri: str | int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runtime").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmotionError, match=message) as caught:
        open_source(uri)
    assert "\n" not in str(caught.value)


def test_passwords_are_not_repeated() -> None:
    with pytest.raises(EmotionError) as caught:
        open_source("rtmp://user:secret@10.0.0.1/stream")
    assert "secret" not in str(caught.value)


# --- errors of the system ---


def test_error_of_the_system_breaks_the_source_only() -> None:
    def frames() -> Generator[Frame, None, None]:
        yield Frame(np.zeros((4, 4, 3), np.uint8), 0, 0.0, "disk")
        raise OSError(5, "Input/output error")

    received, failure = drain(Source(frames(), "disk"))
    assert len(received) == 1
    assert failure == "source disk failed: Input/output error; check its device or disk"
