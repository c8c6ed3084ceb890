"""Images of videos: turned, with square pixels, whole, and those of animations."""

import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from media_reads import Pixels, difference, read
from PIL import Image

from emotion_runtime.errors import EmotionError
from emotion_runtime.media.geometry import Geometry
from emotion_runtime.media.video import Video
from emotion_runtime.sinks.video_file import VideoFile
from emotion_runtime.sources import open_source
from emotion_runtime.types import Frame
from made_videos import H264, SIZE, ffmpeg, moving

DISPLAYED: dict[str, tuple[tuple[str, ...], Callable[[Pixels], Pixels]]] = {
    "hflip": (("-display_hflip",), lambda image: image[:, ::-1]),
    "vflip": (("-display_vflip",), lambda image: image[::-1]),
    "90": (("-display_rotation", "90"), np.rot90),
    "180": (("-display_rotation", "180"), lambda image: np.rot90(image, 2)),
    "270": (("-display_rotation", "270"), lambda image: np.rot90(image, 3)),
    "90 hflip": (("-display_rotation", "90", "-display_hflip"), lambda image: np.rot90(image)[:, ::-1]),
    "270 hflip": (("-display_rotation", "270", "-display_hflip"), lambda image: np.rot90(image, 3)[:, ::-1]),
    "180 hflip": (("-display_rotation", "180", "-display_hflip"), lambda image: image[::-1]),
}


@pytest.mark.parametrize("name", DISPLAYED)
def test_display_matrix_is_applied_as_by_players(
    folder: Path, base: Path, plain: list[Frame], name: str
) -> None:
    options, expected = DISPLAYED[name]
    path = folder / f"{name}.mp4"
    ffmpeg(*options, "-i", base, "-c", "copy", path)
    image = read(path)[7].image
    np.testing.assert_array_equal(image, expected(plain[7].image))
    # FFmpeg's program rotates by itself; its colours are compared, since its conversion to BGR is another.
    height, width = image.shape[:2]
    ffmpeg("-i", path, "-frames:v", "8", "-f", "rawvideo", "-pix_fmt", "gray", folder / "turned.raw")
    turned = np.fromfile(folder / "turned.raw", np.uint8).reshape(8, height, width)[7]
    ffmpeg("-i", base, "-frames:v", "8", "-f", "rawvideo", "-pix_fmt", "gray", folder / "stored.raw")
    stored = np.fromfile(folder / "stored.raw", np.uint8).reshape(8, SIZE[1], SIZE[0])[7]
    np.testing.assert_array_equal(turned, expected(stored))


@pytest.mark.parametrize(
    ("stored", "square"),
    [(("80:90", "2/1"), (90, 160)), (("160:46", "23/45"), (90, 160)), (("112:90", "64/45"), (90, 159))],
)
@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
def test_pixels_become_square(
    base: Path, plain: list[Frame], stored: tuple[str, str], square: tuple[int, int], suffix: str
) -> None:
    path = base.with_name(f"sar{suffix}")
    scaling = f"scale={stored[0]},setsar={stored[1]}"
    ffmpeg("-i", base, "-vf", scaling, "-t", 0.4, "-an", *H264, path)
    image = read(path)[5].image
    assert image.shape[:2] == square
    whole = np.asarray(Image.fromarray(plain[5].image).resize(square[::-1]))
    assert difference(image, whole) < 12  # a squeezed image differs by more than 40


def test_ratio_of_the_container_takes_precedence(folder: Path, base: Path) -> None:
    ffmpeg("-i", base, "-vf", "scale=80:90,setsar=1/1", "-t", 0.4, "-an", *H264, folder / "coded.mp4")
    ffmpeg("-i", folder / "coded.mp4", "-c", "copy", "-aspect", "16:9", folder / "stated.mkv")
    assert read(folder / "stated.mkv")[0].image.shape == (90, 160, 3)


def test_ratio_may_change_in_the_middle(folder: Path, base: Path) -> None:
    parts = []
    for name, stored, ratio in (("a", "80:90", "2/1"), ("b", "80:90", "1/1"), ("c", "160:46", "23/45")):
        part = folder / f"part_{name}.ts"
        ffmpeg("-i", base, "-vf", f"scale={stored},setsar={ratio}", "-t", 0.4, "-an", *H264, part)
        parts.append(part.read_bytes())
    path = folder / "changes.ts"
    path.write_bytes(b"".join(parts) + parts[0])
    shapes = [frame.image.shape[:2] for frame in read(path)]
    assert shapes == [(90, 160)] * 10 + [(90, 80)] * 10 + [(90, 160)] * 20


def combing(image: Pixels) -> float:
    """Return how much every second line differs from its neighbours."""
    lines = image[..., 1].astype(int)
    return float(np.abs(2 * lines[1:-1] - lines[:-2] - lines[2:]).mean())


@pytest.mark.parametrize(
    "codec",
    [("libx264", "-crf", "12", "-x264opts", "tff=1"), ("mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct")],
)
def test_interlaced_frames_become_whole(folder: Path, codec: tuple[object, ...]) -> None:
    path = folder / "interlaced.mkv"
    ffmpeg(*moving(2), "-vf", "tinterlace=interleave_top,fieldorder=tff", "-c:v", *codec, path)
    video = Video(str(path))
    raw, times = [], []
    for frame in video._decodable():  # what the filter gets
        raw.append(video.image(frame))
        times.append(video.stated_time(frame))
    video.close()
    frames = read(path)
    assert len(frames) == len(raw) > 20
    assert np.mean([combing(frame.image) for frame in frames]) < 0.7 * np.mean([combing(x) for x in raw])
    assert [frame.t for frame in frames] == pytest.approx(times, abs=1e-3)


@pytest.mark.parametrize(
    ("suffix", "kind"), [("gif", "GIF"), ("webp", "WEBP"), ("apng", "PNG"), ("png", "PNG")]
)
def test_animation_is_a_video(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"animated.{suffix}"
    images = [Image.new("RGB", (48, 32), (40 * n, 20, 10)) for n in range(5)]
    images[0].save(path, kind, save_all=True, append_images=images[1:], duration=[100, 300, 100, 100, 900])
    frames = read(path)
    assert [frame.t for frame in frames] == pytest.approx([0, 0.1, 0.4, 0.5, 0.6])
    assert [int(frame.image[16, 16, 2]) for frame in frames] == pytest.approx([0, 40, 80, 120, 160], abs=8)
    assert not any(frame.still for frame in frames)


def test_truncated_animation_cannot_be_opened(tmp_path: Path) -> None:
    images = [Image.new("RGB", (48, 32), (40 * n, 20, 10)) for n in range(5)]
    images[0].save(tmp_path / "whole.webp", save_all=True, append_images=images[1:])
    (tmp_path / "cut.webp").write_bytes((tmp_path / "whole.webp").read_bytes()[:-60])
    with pytest.raises(EmotionError, match="get an intact copy"):
        read(tmp_path / "cut.webp")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux lists them")
def test_reading_and_recording_start_no_threads_for_each_frame(base: Path, tmp_path: Path):
    """Converters of frames had two each, until the garbage was collected: hundreds of threads."""
    counts, copy = [], None
    with open_source(str(base)) as source:
        for frame in source:
            copy = copy or VideoFile(tmp_path / "b.mp4", frame.image.shape[1::-1], frame.t)
            copy.write(frame.image, frame.t)
            counts.append(len(list(Path("/proc/self/task").iterdir())))
    copy.close()
    assert len(counts) > 50
    assert max(counts[10:]) <= counts[10] + 1


def test_frames_are_freed_without_the_garbage_collector(base: Path):
    """PyAV ties a frame to its side data and back, if that is read as its property: memory grew for hours."""
    with av.open(str(base)) as container:
        geometry = Geometry(container.streams.video[0])
        decoded = next(container.decode(video=0))
        before = sys.getrefcount(decoded)
        geometry.image(decoded)
        assert sys.getrefcount(decoded) == before
