"""HLS and videos over HTTP."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import av
import numpy as np
import pytest
from stream_servers import (
    QUICK,
    Answer,
    http_server,
    levels,
    lost,
    redirect,
    send,
    shots_of,
)

from emotion_runtime.sources.live import LiveSource
from emotion_runtime.sources.network import connect_network
from emotion_runtime.sources.network_address import NetworkLimits


def write_video(path: Path, *, seconds: float, rate: int = 20, **options: str) -> Path:
    """Write a video whose grey level grows with time."""
    kind = options.pop("kind", None)
    with av.open(str(path), "w", format=kind, options=options) as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "g": str(rate)})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(int(seconds * rate)):
            image = np.full((48, 64, 3), 20 + index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path


class Playlist:
    """HLS of a camera: a second of video in each segment, the last three in the playlist."""

    def __init__(self, folder: Path, seconds: int) -> None:
        write_video(folder / "all.m3u8", seconds=seconds, kind="hls", hls_time="1", hls_list_size="0")
        self._segments = [path.read_bytes() for path in sorted(folder.glob("all*.ts"))]
        assert len(self._segments) == seconds
        self._start = time.monotonic()
        self.stopped_at: float | None = None

    def playlist(self, request: BaseHTTPRequestHandler, kind: str = "application/vnd.apple.mpegurl") -> None:
        now = self.stopped_at or time.monotonic()
        newest = min(len(self._segments), 3 + int(now - self._start))
        first = max(0, newest - 3)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        for number in range(first, newest):
            lines += ["#EXTINF:1.0,", f"segment{number}.ts"]
        send(request, kind, "\n".join(lines).encode())

    def playlist_as_text(self, request: BaseHTTPRequestHandler) -> None:
        self.playlist(request, "text/plain")

    def answers(self) -> dict[str, Answer]:
        def segment(number: int) -> Answer:
            return lambda request: send(request, "video/mp2t", self._segments[number])

        return {"/live.m3u8": self.playlist, "/plain.m3u8": self.playlist_as_text} | {
            f"/segment{number}.ts": segment(number) for number in range(len(self._segments))
        }


@pytest.mark.slow
@pytest.mark.alone
def test_hls_is_paced_by_its_media_times_and_uses_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # neither for playlists nor for segments
    monkeypatch.delenv("no_proxy", raising=False)
    with http_server(Playlist(tmp_path, 8).answers()) as place:
        shots = shots_of(f"http://{place}/live.m3u8", 50, NetworkLimits(opening=3, silence=2))
        assert len(shots_of(f"http://{place}/plain.m3u8", 2, NetworkLimits(opening=3, silence=2))) == 2
    assert levels(shots)[0] >= 20 + 35  # it begins with the newest segment
    steps = np.diff([shot.captured for shot in shots])
    assert np.percentile(steps, [10, 50, 90]) == pytest.approx([0.05] * 3, abs=0.02)


@pytest.mark.slow
def test_hls_that_stands_still(tmp_path: Path):
    playlist = Playlist(tmp_path, 4)
    playlist.stopped_at = time.monotonic()
    with http_server(playlist.answers()) as place:
        start = time.monotonic()
        assert lost(f"http://{place}/live.m3u8").cause in ("ended", "time-out")
        assert time.monotonic() - start < 8


@pytest.mark.parametrize(
    "text", [b"#EXTM3U\n", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"]
)
def test_a_playlist_without_video(text: bytes):
    answers = {"/live.m3u8": lambda request: send(request, "application/x-mpegurl", text)}
    with http_server(answers) as place:
        assert lost(f"http://{place}/live.m3u8").cause in ("format", "time-out")


def test_data_of_no_known_kind():
    answers = {"/cam": lambda request: send(request, "application/octet-stream", b"\x01\x02" * 5000)}
    with http_server(answers) as place:
        error = lost(f"http://{place}/cam")
        assert (error.cause, "format" in str(error)) == ("format", True)


def test_a_stream_of_mpeg_ts_without_an_end(tmp_path: Path):
    data = write_video(tmp_path / "a.ts", seconds=4).read_bytes()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "video/mp2t")
        request.end_headers()
        for piece in chunks(data, 188 * 20):
            request.wfile.write(piece)
            time.sleep(0.02)

    with http_server({"/cam": answer}) as place:
        shots = shots_of(f"http://{place}/cam", 20, NetworkLimits(opening=4, silence=2))
    assert levels(shots) == sorted(levels(shots))
    assert QUICK.silence == 1.0


def test_a_video_file_is_played_once_at_its_own_speed(tmp_path: Path):
    data = write_video(tmp_path / "a.mp4", seconds=1.5, movflags="faststart").read_bytes()
    answers = {
        "/a.mp4": lambda request: send(request, "video/mp4", data),
        "/clip": redirect("/a.mp4"),
    }
    with http_server(answers) as place:
        connect = connect_network(f"http://{place}/clip", NetworkLimits(3, 2))
        source = LiveSource("clip", connect)
        start = time.monotonic()
        frames = list(source)
        assert time.monotonic() - start > 1.4
        assert len(frames) > 25
        assert [line.status for line in source.take_statuses()] == ["connecting", "live", "ended"]
        assert "end" in (source.reason or "")
        source.close()


def test_a_video_file_that_breaks_off_is_lost(tmp_path: Path):
    data = write_video(tmp_path / "a.mp4", seconds=8, movflags="faststart").read_bytes()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "video/mp4")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[: len(data) // 3])

    with http_server({"/a.mp4": answer}) as place:
        assert not lost(f"http://{place}/a.mp4", NetworkLimits(2, 1)).final


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))
