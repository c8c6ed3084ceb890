"""The one reader: geometry, times, cuts and truncation of videos, whatever container they are in."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.media.geometry import Geometry
from emotion_runtime.media.video import Video
from emotion_runtime.sinks.video_file import VideoFile
from emotion_runtime.sources import open_source
from emotion_runtime.types import Frame
from made_videos import H264, RATE, SIZE, clock, ffmpeg, make_base, moving, tone

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    return make_base(folder / "base.mp4")


@pytest.fixture(scope="module")
def plain(base: Path) -> list[Frame]:
    return read(base)


def read(path: Path | str) -> list[Frame]:
    with open_source(path) as source:
        return list(source)


def failure(path: Path) -> tuple[int, str]:
    """Return how many frames a file gives before it fails, and the message."""
    count = 0
    with pytest.raises(SourceBroken) as caught, open_source(path) as source:  # noqa: PT012 - counts
        for _ in source:
            count += 1
    assert "\n" not in str(caught.value)
    return count, str(caught.value)


def shown_by_ffmpeg(path: Path) -> int:
    """Return how many frames FFmpeg's own program shows."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "quiet", "-i", str(path), "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-f", "framemd5", "-"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sum(not line.startswith("#") for line in lines)


def difference(one: Pixels, other: Pixels) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


# --- the display matrix ---

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


# --- pixels that are not square ---


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


# --- cuts, and streams that begin in the middle ---


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("options", [("-t", "1.5"), (), ("-t", "1.5", "-an"), ("-an",)])
def test_cut_without_encoding_gives_the_frames_that_players_show(
    folder: Path, base: Path, plain: list[Frame], suffix: str, options: tuple[str, ...]
) -> None:
    path = folder / f"cut{suffix}"
    ffmpeg("-ss", "1.3", "-i", base, *options, "-c", "copy", path)
    frames = read(path)
    assert len(frames) == shown_by_ffmpeg(path)
    assert frames[0].t == pytest.approx(0, abs=0.05)
    # At 1.3 s, frame 32 ends and 33 begins.
    closest = min(range(100), key=lambda index: difference(frames[0].image, plain[index].image))
    assert closest in (32, 33)


def test_stream_that_begins_within_a_group_of_pictures(folder: Path, base: Path) -> None:
    ffmpeg("-i", base, "-c", "copy", folder / "whole.ts")
    data = (folder / "whole.ts").read_bytes()
    path = folder / "segment.ts"
    path.write_bytes(data[len(data) // 5 // 188 * 188 :])
    frames = read(path)
    assert len(frames) == shown_by_ffmpeg(path) == 50


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4"])
def test_clock_may_begin_at_twelve_hours(folder: Path, base: Path, suffix: str) -> None:
    path = folder / f"late{suffix}"
    ffmpeg("-i", base, "-c", "copy", "-output_ts_offset", 43200, path)
    frames = read(path)
    assert len(frames) == 100
    assert frames[0].t == pytest.approx(0, abs=0.05)
    assert frames[-1].t == pytest.approx(frames[0].t + 99 / RATE, abs=1e-3)


# --- truncated files ---


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mp4", ("-c", "copy", "-movflags", "faststart")),
        (".mov", ("-c", "copy", "-movflags", "faststart", "-an")),
        (".mkv", ("-c", "copy")),
        (".webm", ("-t", "0.6", "-an", "-c:v", "libvpx", "-deadline", "realtime")),
        (".avi", ("-t", "1", "-an", "-c:v", "mjpeg")),
        (".gif", ("-t", "0.4")),
        (".wmv", ("-t", "1", "-c:v", "wmv2")),
        (".flv", ("-c", "copy")),
        (".ogv", ("-t", "1", "-an", "-c:v", "theora")),
        (".apng", ("-t", "0.4", "-an")),
    ],
)
def test_truncated_file_gives_its_frames_and_the_reason(
    folder: Path, base: Path, suffix: str, options: tuple[str, ...], part: float
) -> None:
    path = folder / f"end{suffix}"
    if not path.exists():
        ffmpeg("-i", base, *options, path)
    data = path.read_bytes()
    whole = len(read(path))
    cut = folder / f"end_{part}{suffix}"
    cut.write_bytes(data[: int(part * len(data))])
    count, message = failure(cut)
    assert part * whole * 0.3 - 2 < count < whole
    assert "truncated" in message or "corrupt" in message
    assert "get a complete copy" in message


def test_mp4_without_any_of_its_frames(folder: Path, base: Path) -> None:
    ffmpeg("-i", base, "-c", "copy", "-movflags", "faststart", folder / "fast.mp4")
    data = (folder / "fast.mp4").read_bytes()
    (folder / "head.mp4").write_bytes(data[: data.index(b"mdat") - 4])
    count, message = failure(folder / "head.mp4")
    assert count == 0
    assert "before its first frame" in message


def test_mp4_without_its_index(folder: Path, base: Path) -> None:
    (folder / "no_index.mp4").write_bytes(base.read_bytes()[:-2000])
    with pytest.raises(EmotionError, match="index is missing"):
        open_source(folder / "no_index.mp4")


def test_data_after_the_video_is_not_a_truncation(folder: Path, base: Path) -> None:
    """Phones append data of their own, and recorders allocate more than they need."""
    ffmpeg("-i", base, "-c", "copy", "-movflags", "faststart", folder / "plain.mp4")
    data = (folder / "plain.mp4").read_bytes()
    for end in (bytes(5000), b"SEFH" + bytes(range(200)), b"\x7f\xff\xff\xffsefd junk"):
        (folder / "longer.mp4").write_bytes(data + end)
        assert len(read(folder / "longer.mp4")) == 100
    # The size of `mdat` is wrong, but every frame that the index lists is there.
    position = data.index(b"mdat") - 4
    size = int.from_bytes(data[position : position + 4], "big") + 1000
    (folder / "longer.mp4").write_bytes(data[:position] + size.to_bytes(4, "big") + data[position + 4 :])
    assert len(read(folder / "longer.mp4")) == 100


def test_recording_that_was_killed_is_not_truncated(folder: Path, base: Path) -> None:
    """A live Matroska states no length, and MPEG-TS never does: they play to their ends."""
    ffmpeg("-i", base, "-c", "copy", "-f", "matroska", "-live", "1", folder / "live.mkv")
    ffmpeg("-i", base, "-c", "copy", folder / "live.ts")
    for name in ("live.mkv", "live.ts"):
        path = folder / f"killed_{name}"
        data = (folder / name).read_bytes()
        path.write_bytes(data[: len(data) // 2])
        assert 40 < len(read(path)) < 60


# --- times ---


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_time_counts_from_the_start_of_the_sound(folder: Path, suffix: str) -> None:
    path = folder / f"late_video{suffix}"
    ffmpeg(*clock(4), *H264, folder / "clock.mp4")
    ffmpeg(*tone(7), "-itsoffset", 3, "-i", folder / "clock.mp4", "-c:v", "copy", "-c:a", "aac", path)
    frames = read(path)
    assert frames[0].t == pytest.approx(3.0, abs=0.03)
    for frame in frames[::20]:
        assert frame.image.mean() / 20 == pytest.approx(frame.t - 3, abs=0.15)


@pytest.mark.parametrize(
    "timestamps", ["N/25/TB-1/TB", "floor(N/3)*3/25/TB", "(50-N)/25/TB", "N*N/100/TB", "0"]
)
def test_times_always_rise(folder: Path, timestamps: str) -> None:
    path = folder / "odd.nut"
    ffmpeg(
        *moving(1), "-c:v", "mjpeg", "-fps_mode", "passthrough", "-bsf:v", f"setts=ts='{timestamps}'", path
    )
    times = [frame.t for frame in read(path)]
    assert len(times) == 25
    assert times[0] >= 0
    assert all(later > earlier for earlier, later in pairwise(times))


# --- streams that are no video ---


def test_cover_image_is_skipped(folder: Path, base: Path) -> None:
    ffmpeg("-i", base, "-frames:v", 1, folder / "cover.jpg")
    inputs = ("-i", folder / "cover.jpg", "-i", base, "-map", 0, "-map", "1:v", "-c", "copy")
    for name in ("cover_first.mkv", "cover_first.mp4"):
        ffmpeg(*inputs, "-disposition:v:0", "attached_pic", folder / name)
        assert len(read(folder / name)) == 100


def test_music_with_a_cover_is_no_video(folder: Path, base: Path) -> None:
    ffmpeg("-i", base, "-frames:v", 1, folder / "cover.jpg")
    maps = ("-map", 0, "-map", 1, "-c:v", "copy", "-disposition:v", "attached_pic")
    ffmpeg(*tone(1), "-i", folder / "cover.jpg", *maps, folder / "music.mp3")
    with pytest.raises(EmotionError, match="no video but a cover image"):
        open_source(folder / "music.mp3")


# --- interlaced material ---


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


# --- names ---

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


# --- pipes and growing files ---


@pytest.fixture
def stream(folder: Path, base: Path) -> bytes:
    path = folder / "stream.ts"
    if not path.exists():
        ffmpeg("-i", base, "-c", "copy", path)
    return path.read_bytes()


def test_named_pipe(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(stream,))
    writer.start()
    assert len(read(path)) == 100
    writer.join()


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
    assert time.monotonic() - started < 1


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
        time.sleep(0.8)
        source.stop()

    source = open_source(path, follow=True)
    writer = threading.Thread(target=grow)
    writer.start()
    with source:
        assert len(list(source)) == 100
    writer.join()


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


# --- animations ---


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
