"""The window: keys, closing, and displays that are missing or do not answer."""

import io
import socket
import sys
from pathlib import Path

import cv2
import pytest
from sample_events import event, frame

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks import window
from emotion_runtime.sinks.window import WindowSink


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


def test_window_of_a_file_is_closed_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each photo of a folder would leave one, and closing that of the present file end nothing."""
    opened: list[str] = []
    monkeypatch.setattr(window, "display_problem", lambda: None)
    monkeypatch.setattr(cv2, "namedWindow", lambda title, _: opened.append(title))
    monkeypatch.setattr(cv2, "destroyWindow", opened.remove)
    monkeypatch.setattr(cv2, "imshow", lambda *_: None)
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda title, _: float(title in opened))
    sink = WindowSink()
    for name in ("a.png", "b.png"):
        assert sink.write(frame(source=name), event())
        assert opened == [f"emotion-runtime: {name}"]
        sink.end(name)
        sink.end("c.png")  # which had no frame
    assert sink.idle()
    assert sink.write(frame(source="d.mp4"), event())
    opened.clear()  # by the viewer
    assert not sink.write(frame(source="d.mp4"), event())


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
