"""Truncated videos give their frames and the reason; what is whole is not taken for truncated."""

from pathlib import Path

import pytest
from media_reads import failure, read

from emotion_runtime.errors import EmotionError
from emotion_runtime.sources import open_source
from made_videos import ffmpeg


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
