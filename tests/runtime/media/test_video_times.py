"""Times of videos: cuts, streams that begin in the middle, clocks, and streams that are no video."""

from itertools import pairwise
from pathlib import Path

import pytest
from media_reads import difference, read, shown_by_ffmpeg

from emotion_runtime.errors import EmotionError
from emotion_runtime.sources import open_source
from emotion_runtime.types import Frame
from made_videos import H264, RATE, clock, ffmpeg, moving, tone


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
