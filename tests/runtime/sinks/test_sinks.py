"""Sinks: lines that parse, images that can be read, files that play."""

import io
import json
import socket
import subprocess
import sys
from pathlib import Path

import av
import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from sample_events import EMOTIONS, event, frame, person

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks import window
from emotion_runtime.sinks.jsonl import JsonlSink
from emotion_runtime.sinks.video import VideoSink
from emotion_runtime.sinks.window import WindowSink
from emotion_runtime.types import EmotionEvent, Person

# --- JSON lines ---


def test_lines_are_written_at_once_and_match_the_events(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonlSink(str(path))
    for index in range(3):
        assert sink.write(frame(index), event(person(1, (1.23456, 2, 3, 4)), frame=index, t=index / 3))
        lines = path.read_text().splitlines()
        assert len(lines) == index + 1  # before the file is closed: nothing is buffered
        line = json.loads(lines[-1])
        assert list(line) == ["schema", "type", "source", "frame", "t", "persons", "latency_ms", "dropped"]
        assert (line["schema"], line["source"], line["frame"], line["dropped"]) == (2, "video.mp4", index, 2)
        assert line["t"] == pytest.approx(index / 3, abs=1e-6)
        assert line["persons"][0]["box"] == pytest.approx([1.23456, 2, 3, 4], abs=0.01)
    sink.close()
    sink.close()


def test_numbers_are_rounded_and_probabilities_still_sum_to_one(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonlSink(str(path))
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = dict(zip(EMOTIONS, rng.dirichlet(np.full(7, 0.3)).tolist(), strict=True))
        one = Person(
            id=1,
            box=(1 / 3, 1, 2, 2),
            score=1 / 3,
            state="steady",
            top="fear",
            emotions=values,
            raw=values,
            arousal=-1 / 3,
        )
        sink.write(frame(), event(one))
    sink.close()
    for text in path.read_text().splitlines():
        line = json.loads(text)["persons"][0]
        assert sum(line["emotions"].values()) == pytest.approx(1, abs=1e-7)
        assert (line["valence"], line["dominance"]) == (None, None)
        assert line["arousal"] == pytest.approx(-1 / 3, abs=1e-7)
        longest = max(len(str(value).split(".")[-1]) for value in line["raw"].values() if value >= 1e-4)
        assert longest <= 8


def test_names_that_are_not_utf_8_are_written_with_a_replacement(tmp_path: Path) -> None:
    sink = JsonlSink(str(tmp_path / "out.jsonl"))
    for source in ("caf\udce9.mp4", "喜悦.mp4"):
        sink.write(frame(), msgspec.structs.replace(event(), source=source))
    sink.close()
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["source"] for line in lines] == ["caf\ufffd.mp4", "喜悦.mp4"]


@pytest.mark.parametrize("name", ["out-10:30.mp4", "%03d.mp4"])
def test_any_name_can_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    sink = VideoSink(name)
    sink.write(frame(), event())
    sink.close()
    with av.open(f"file:{name}") as container:
        assert len(list(container.decode(video=0))) == 1


def test_lines_on_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sink = JsonlSink("-")
    sink.write(frame(), event(person(1, (0, 0, 9, 9))))
    sink.close()
    sys.stdout.flush()  # closing the sink leaves standard output open
    assert json.loads(capfdbinary.readouterr().out)["persons"][0]["id"] == 1


def test_closed_pipe_ends_writing_quietly() -> None:
    program = (
        "from emotion_runtime.sinks.jsonl import JsonlSink\n"
        "from emotion_runtime.types import EmotionEvent\n"
        "sink = JsonlSink('-')\n"
        "event = EmotionEvent(source='x' * 1000, frame=0, t=0.0, persons=[])\n"
        "while sink.write(None, event): pass\n"
        "sink.close()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline()
        run.stdout.close()
        assert run.stderr.read() == b""
        assert run.wait(30) == 0


@pytest.mark.parametrize("name", ["file/out.jsonl", "."])
def test_jsonl_file_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmotionError, match=r"cannot be (written|created)") as caught:
        JsonlSink(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_full_disk_is_reported() -> None:
    sink = JsonlSink("/dev/full")
    with pytest.raises(EmotionError, match="No space left"):
        sink.write(frame(), event())


# --- video files ---


def decoded(path: Path) -> list[tuple[float, NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        return [(float(f.time), f.to_ndarray(format="bgr24")) for f in container.decode(video=0)]


def shade(image: NDArray[np.uint8], event: EmotionEvent) -> NDArray[np.uint8]:
    return np.full_like(image, 20 + 8 * event.frame)


@pytest.mark.parametrize("size", [(480, 270), (321, 181), (64, 49)])
def test_recording_has_every_frame_at_its_time(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "out.mp4"
    sink = VideoSink(str(path), shade)
    times = [5.0, 5.04, 5.2, 5.2, 6.0, 6.1]
    for index, t in enumerate(times):
        assert sink.write(frame(index, t, size=size), event(frame=index))
    sink.close()
    sink.close()
    images = decoded(path)
    assert [t for t, _ in images] == pytest.approx([t - 5 for t in times], abs=1e-3)
    for index, (_, image) in enumerate(images):
        assert image.shape == (size[1] + size[1] % 2, size[0] + size[0] % 2, 3)
        assert abs(image.mean() - (20 + 8 * index)) < 4


def test_recording_has_a_codec_for_browsers_and_its_duration(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    sink = VideoSink(str(path))
    for index in range(60):
        sink.write(frame(index, index / 25), event(person(1, (200, 60, 280, 150))))
    sink.close()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.frames == 60
        assert float(stream.duration * stream.time_base) == pytest.approx(60 / 25, abs=0.05)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(25, abs=0.1)


@pytest.mark.parametrize("size", [(480, 270), (1920, 1080)])
def test_recording_keeps_its_colours(tmp_path: Path, size: tuple[int, int]) -> None:
    color = (20, 200, 30)  # with the wrong colour standard players would show (13, 172, 16)
    sink = VideoSink(str(tmp_path / "out.mp4"), lambda image, _: np.full_like(image, color))
    sink.write(frame(size=size), event())
    sink.close()
    ((_, image),) = decoded(tmp_path / "out.mp4")
    assert np.abs(image.mean(axis=(0, 1)) - color).max() < 3


def test_killed_run_leaves_a_playable_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    program = (
        "import os, sys\n"
        "import numpy as np\n"
        "from emotion_runtime.sinks.video import VideoSink\n"
        "from emotion_runtime.types import EmotionEvent, Frame\n"
        "sink = VideoSink(sys.argv[1])\n"
        "for i in range(130):\n"
        "    image = np.full((96, 128, 3), i, np.uint8)\n"
        "    sink.write(Frame(image, i, i / 25, 'x'), EmotionEvent(source='x', frame=i, t=0.0, persons=[]))\n"
        "os._exit(1)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 1
    assert len(decoded(path)) >= 50


def test_second_source_gets_its_own_file(tmp_path: Path) -> None:
    sink = VideoSink(str(tmp_path / "out.mp4"), shade)
    for index in range(4):
        sink.write(frame(index, index / 25, source="a"), event(frame=0))
        sink.write(frame(index, index / 25, source="b", size=(64, 48)), event(frame=20))
    sink.close()
    assert [image.shape for _, image in decoded(tmp_path / "out.mp4")] == [(270, 480, 3)] * 4
    assert [image.shape for _, image in decoded(tmp_path / "out-2.mp4")] == [(48, 64, 3)] * 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.txt", "suffix"),
        ("out", "suffix"),
        ("file/out.mp4", "cannot be created"),
        ("dir.mp4", "directory"),
    ],
)
def test_unwritable_video_is_reported_before_the_first_frame(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "dir.mp4").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(EmotionError, match=message) as caught:
        VideoSink(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.txt").exists()


def test_recording_without_frames_leaves_no_file(tmp_path: Path) -> None:
    VideoSink(str(tmp_path / "out.mp4")).close()
    assert not (tmp_path / "out.mp4").exists()


# --- window ---


def test_missing_display_is_reported_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(EmotionError, match="--no-show"):
        WindowSink()


@pytest.mark.parametrize(
    ("key", "visible", "continues"),
    [(-1, 1, True), (ord("x"), 1, True), (ord("q"), 1, False), (27, 1, False)],
)
def test_q_and_escape_end_the_run(
    monkeypatch: pytest.MonkeyPatch, key: int, visible: int, continues: bool
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(window, "display_problem", lambda: None)
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.write(f"{title} {image.shape}"))
    monkeypatch.setattr(cv2, "waitKey", lambda _: key)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: visible)
    sink = WindowSink()
    assert sink.write(frame(), event()) is continues
    assert shown.getvalue() == "emotion-runtime: a (270, 480, 3)"


def test_closing_the_window_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "display_problem", lambda: None)
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda *_: None)
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 0.0)
    sink = WindowSink()
    assert sink.write(frame(), event())  # the window is created here
    assert not sink.write(frame(), event())


def test_closing_one_of_two_windows_ends_only_its_view(monkeypatch: pytest.MonkeyPatch) -> None:
    visible = {"emotion-runtime: a": 1.0, "emotion-runtime: b": 1.0}
    shown: list[str] = []
    places: list[tuple[int, int]] = []
    monkeypatch.setattr(window, "display_problem", lambda: None)
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "moveWindow", lambda _, x, y: places.append((x, y)))
    monkeypatch.setattr(cv2, "imshow", lambda title, _: shown.append(title))
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda title, _: visible[title])
    sink = WindowSink(windows=2)
    frames = [frame(source="a"), frame(source="b")]
    assert all(sink.write(each, event()) for each in frames)
    assert len(set(places)) == 2  # side by side
    visible["emotion-runtime: a"] = 0.0
    shown.clear()
    assert all(sink.write(each, event()) for each in [*frames, *frames])
    assert shown == ["emotion-runtime: b"] * 2
    visible["emotion-runtime: b"] = 0.0
    assert sink.write(frames[0], event())
    assert not sink.write(frames[1], event())


@pytest.mark.parametrize(
    ("display", "words"),
    [
        (":77", "the display :77 .DISPLAY. does not answer"),
        ("localhost:77.0", "the display localhost:77.0 .DISPLAY. does not answer"),
        ("nonsense", "does not answer"),
        ("", "there is no display"),
    ],
)
def test_display_that_does_not_answer_is_reported(
    monkeypatch: pytest.MonkeyPatch, display: str, words: str
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(EmotionError, match=words) as caught:
        WindowSink()
    assert "--no-show" in str(caught.value)


def test_display_that_answers_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-7")
    monkeypatch.delenv("DISPLAY", raising=False)
    assert window.display_problem() == "the Wayland display wayland-7 does not answer"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "wayland-7"))
        server.listen()
        assert window.display_problem() is None


def test_display_that_is_gone_is_reported_before_qt_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(window, "display_problem", lambda: None)
    sink = WindowSink()
    monkeypatch.setattr(window, "display_problem", lambda: "the display :0 (DISPLAY) does not answer")
    with pytest.raises(EmotionError, match="any longer"):
        sink.write(frame(), event())
    sink.close()


def test_opencv_without_windows_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def imshow(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(window, "display_problem", lambda: None)
    monkeypatch.setattr(cv2, "namedWindow", imshow)
    with pytest.raises(EmotionError, match="cannot show windows"):
        WindowSink().write(frame(), event())
