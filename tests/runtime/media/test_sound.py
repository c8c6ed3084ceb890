"""The sound of a file in a recording of its video: in step with it, and as long."""

from pathlib import Path

import av
import numpy as np
import pytest

from emotion_runtime.media.sound import open_sound
from emotion_runtime.sources import open_source
from made_videos import H264, ffmpeg, moving, tone


def record(source: Path, output: Path, *, first: int = 0, last: int = 10**6) -> None:
    """Write a video of the frames from first to last, with their sound."""
    start, sound = 0.0, None
    with open_source(source) as frames, av.open(str(output), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        for frame in frames:
            if not first <= frame.index <= last:
                continue
            if frame.index == first:
                start = frame.t
                sound = open_sound(frame.source, container, start)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="bgr24")))
            if sound:
                sound.write_until(frame.t - start + 0.04)
        container.mux(stream.encode(None))
        if sound:
            sound.close()


def loud_seconds(path: Path) -> tuple[float, float]:
    """Return from when to when the sound of a file is louder than noise."""
    with av.open(str(path)) as container:
        times = [
            float(frame.time)
            for frame in container.decode(audio=0)
            if np.abs(np.asarray(frame.to_ndarray(), np.float64)).max() > 0.02
        ]
    return times[0], times[-1]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_sound_is_copied(base: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    record(base, output)
    assert loud_seconds(output) == pytest.approx((0, 4), abs=0.08)
    with av.open(str(output)) as copy, av.open(str(base)) as original:
        packets = [bytes(packet) for packet in original.demux(audio=0)]
        copied = [bytes(packet) for packet in copy.demux(audio=0) if packet.size]
        assert len(copied) > 150
        assert set(copied) <= set(packets)


def test_sound_of_a_part(base: Path, tmp_path: Path) -> None:
    record(base, tmp_path / "part.mkv", first=50, last=74)
    assert loud_seconds(tmp_path / "part.mkv") == pytest.approx((0, 1), abs=0.08)


def test_sound_stays_in_step_when_it_begins_later_or_earlier(tmp_path: Path) -> None:
    ffmpeg(*moving(3), "-itsoffset", 1, *tone(2), *H264, "-c:a", "aac", tmp_path / "later.mkv")
    record(tmp_path / "later.mkv", tmp_path / "out.mkv")
    assert loud_seconds(tmp_path / "out.mkv") == pytest.approx((1, 3), abs=0.08)
    ffmpeg("-itsoffset", 1, *moving(2), *tone(3), *H264, "-c:a", "aac", tmp_path / "earlier.mkv")
    record(tmp_path / "earlier.mkv", tmp_path / "out.mkv")
    assert loud_seconds(tmp_path / "out.mkv") == pytest.approx((0, 2), abs=0.08)


@pytest.mark.parametrize("codec", ["pcm_s16le", "libvorbis"])
def test_sound_that_the_container_cannot_hold_is_encoded(base: Path, tmp_path: Path, codec: str) -> None:
    ffmpeg("-i", base, "-c:v", "copy", "-c:a", codec, tmp_path / "source.mkv")
    record(tmp_path / "source.mkv", tmp_path / "out.mp4")
    assert loud_seconds(tmp_path / "out.mp4") == pytest.approx((0, 4), abs=0.08)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.streams.video[0].start_time == 0


def test_sources_without_sound(base: Path, tmp_path: Path) -> None:
    ffmpeg("-i", base, "-an", "-c", "copy", tmp_path / "silent.mp4")
    with av.open(str(tmp_path / "out.mkv"), "w") as container:
        for source in ("demo", "0", str(tmp_path / "silent.mp4"), str(tmp_path / "gone.mp4")):
            assert open_sound(source, container, 0.0) is None
