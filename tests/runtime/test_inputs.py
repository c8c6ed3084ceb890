"""One clear error for each mistake that programs easily make."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_runtime import EmotionError, EmotionEvent, EmotionRuntime, Timing, draw, open_source
from emotion_runtime.types import Detections

GREY = np.zeros((96, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def runtime(tiny_bundle: Path) -> EmotionRuntime:
    return EmotionRuntime(tiny_bundle, lambda _: Detections.empty(), "cpu")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "the image is None; expected an array of (height, width, 3) uint8 BGR; cv2.imread returns"),
        ("me.jpg", "the image is the path 'me.jpg'; expected an array: use look"),
        ([GREY, GREY], "the image is a list of 2; expected one array"),
        ({}, "the image is of type dict; expected an array"),
        (GREY.astype(np.float32), "type float32: expected (height, width, 3) uint8 BGR; values from 0 to 1"),
        (GREY[:, :, 0], "shape (96, 128) and type uint8: expected (height, width, 3) uint8 BGR; convert it"),
        (np.zeros((96, 128, 4), np.uint8), "COLOR_BGRA2BGR"),
        (GREY[:, :, :1], "COLOR_GRAY2BGR"),
        (GREY.transpose(2, 0, 1), "image.transpose(1, 2, 0)"),
        (b"\xff\xd8\xff", "cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)"),
        (iter([GREY]), "(height, width, 3) uint8 BGR: pass several photos to look as a list"),
        (np.zeros((2, 96, 128, 3), np.uint8), "pass several images as a list to look"),
        (
            np.zeros((0, 128, 3), np.uint8),
            "shape (0, 128, 3) and type uint8: expected (height, width, 3) uint8 BGR; it is empty",
        ),
    ],
)
def test_images(runtime: EmotionRuntime, image: object, message: str):
    with pytest.raises(EmotionError, match=re.escape(message)):
        draw(image, EmotionEvent(source="a", frame=0, t=0.0, persons=[]))
    with pytest.raises(EmotionError, match=re.escape(message)) as caught:
        runtime.step(image, 0.0)
    assert "\n" not in str(caught.value)
    if not isinstance(image, str | list):
        with pytest.raises(EmotionError, match=re.escape(message)):
            runtime.look(image)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ((), "no source: expected a file, `demo`, a camera number or a stream"),
        ((None,), "the source is of type NoneType; expected a file"),
        (
            (["a.mp4", "b.mp4"],),
            "of type list; expected a file, `demo`, a camera number or a stream: give each source",
        ),
        ((GREY,), "use look(image) for a photo"),
        (([GREY, GREY],), "for images use look(images)"),
        (
            (cv2.VideoCapture(),),
            "of type VideoCapture; expected a file, `demo`, a camera number or a stream: for",
        ),
        ((True,), "of type bool"),
        ((1.5,), "of type float"),
    ],
)
def test_sources(runtime: EmotionRuntime, sources: tuple, message: str):
    with pytest.raises(EmotionError, match=re.escape(message)):
        runtime.stream(*sources)


@pytest.mark.parametrize("source", [None, ["demo"], GREY, 1.5, b"demo", True])
def test_single_source(source: object):
    with pytest.raises(EmotionError, match=f"the source is of type {type(source).__name__}; give a video or"):
        open_source(source)


@pytest.mark.parametrize("name", [None, 3, Path("a")])
def test_name_of_a_source_of_your_own(runtime: EmotionRuntime, name: object):
    with pytest.raises(EmotionError, match="expected a name as a text"):
        runtime.step(GREY, 0.0, source=name)
    with pytest.raises(EmotionError, match="expected a name as a text"):
        runtime.forget(name)


def test_people_without_an_event_cannot_be_drawn(runtime: EmotionRuntime):
    with pytest.raises(EmotionError, match=r"the event is of type list; .*persons=people"):
        draw(GREY, runtime.look(GREY))


def test_times(runtime: EmotionRuntime):
    event = runtime.step(GREY, np.float32(0.5), source="times")
    assert type(event.t) is float
    assert event.t == 0.5
    for t, message in (
        ("now", "t 'now'; expected seconds as a number"),
        (None, "t None; expected seconds as a number"),
        (0.25, "t 0.25 after t 0.5; expected seconds that do not decrease: call forget('times')"),
        (float("inf"), "t inf after t 0.5"),
        (10**400, "expected seconds as a number"),
        (1.7e12, "at most 1e+11: are these milliseconds?"),
        (-1e300, "at most 1e+11: are these milliseconds?"),
    ):
        with pytest.raises(EmotionError, match=re.escape(message)):
            runtime.step(GREY, t, source="times")
    runtime.forget("times")
    assert runtime.step(GREY, 0.25, source="times").frame == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothing": 0}, "smoothing is an option of Timing: EmotionRuntime(timing=Timing(smoothing=0))"),
        ({"timing": 0.8}, "timing 0.8: expected Timing(window=..., every=..., smoothing=..., hysteresis="),
        ({"timing": Timing(window="2")}, "Timing(window='2'): expected a number"),
        ({"timing": Timing(smoothing=None)}, "Timing(smoothing=None): expected a number"),
        ({"timing": Timing(detect_every=True)}, "Timing(detect_every=True): expected a number"),
        ({"bundle": None}, "bundle None: expected the name or the folder of a bundle"),
        ({"detector": 5}, "detector 5: expected 'face', an ONNX file, or a callable"),
    ],
)
def test_options(options: dict, message: str):
    with pytest.raises(EmotionError, match=re.escape(message)):
        EmotionRuntime(**options)


def test_option_that_does_not_exist():
    with pytest.raises(TypeError, match="unexpected keyword argument 'gpu'"):
        EmotionRuntime(gpu=True)


def test_text_of_a_runtime(runtime: EmotionRuntime):
    assert repr(runtime).startswith("EmotionRuntime(bundle='tiny', head='probe', backend=")
