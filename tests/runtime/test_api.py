"""The Python API from a user's point of view."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import emotion_runtime
from emotion_runtime import EmotionError, EmotionRuntime, Timing, open_pipeline
from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.errors import SourceBroken
from emotion_runtime.types import Detections, Frame
from made_videos import greys, write_images

BOX = (16, 24, 48, 64)


def one_person(_image_bgr: np.ndarray) -> Detections:
    return Detections(np.array([BOX], np.float32), np.array([0.9], np.float32))


@pytest.fixture
def runtime(tiny_bundle: Path) -> EmotionRuntime:
    return EmotionRuntime(tiny_bundle, one_person, "cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "grey.mp4"
    return write_images(path, greys(range(0, 120, 10), (128, 96)), 10)


def frames(name: str, count: int) -> Iterator[Frame]:
    for index in range(count):
        yield Frame(np.zeros((96, 128, 3), np.uint8), index, index / 10, name)


def test_stream_of_a_file(runtime: EmotionRuntime, video: Path):
    events = list(runtime.stream(str(video)))
    assert [event.frame for event in events] == list(range(12))
    assert [event.t for event in events] == pytest.approx([index / 10 for index in range(12)], abs=1e-6)
    assert {event.source for event in events} == {str(video)}
    (person,) = events[-1].persons
    assert person.box == pytest.approx(BOX, abs=0.5)
    assert set(person.emotions) == set(runtime.labels) == {"anger", "joy", "neutral"}


def test_same_file_gives_the_same_events_again(runtime: EmotionRuntime, video: Path):
    assert list(runtime.stream(str(video))) == list(runtime.stream(str(video)))


def test_stream_can_be_restarted_after_stopping_early(runtime: EmotionRuntime, video: Path):
    first = [event for event, _ in zip(runtime.stream(str(video)), range(5), strict=False)]
    assert list(runtime.stream(str(video)))[:5] == first


def test_stream_that_was_left_without_closing_it_does_not_disturb_the_next(
    runtime: EmotionRuntime, video: Path
):
    first = runtime.stream(video)
    whole = [next(first), next(first)]
    again = list(runtime.stream(video))
    assert again[:2] == whole
    with pytest.raises(EmotionError, match="opened again while its first stream"):
        next(first)


def test_two_streams_of_one_source_at_a_time_are_an_error(runtime: EmotionRuntime, video: Path):
    expected = list(runtime.stream(video))
    first, second = runtime.stream(video), runtime.stream(video)
    next(first)
    assert next(second) == expected[0]
    with pytest.raises(EmotionError, match="close the first one"):
        next(first)
    assert list(second) == expected[1:]


def test_missing_file_is_a_user_error(runtime: EmotionRuntime, tmp_path: Path):
    with pytest.raises(EmotionError, match=r"nobody\.mp4"):
        list(runtime.stream(str(tmp_path / "nobody.mp4")))


def test_paths_and_strings_are_equivalent(tiny_bundle: Path, fixed_detector: Path, video: Path):
    runtime = EmotionRuntime(tiny_bundle, fixed_detector, "cpu")
    assert list(runtime.stream(video)) == list(runtime.stream(str(video)))


def test_no_source_is_a_user_error(runtime: EmotionRuntime):
    with pytest.raises(EmotionError, match="no source: expected a file"):
        list(runtime.stream())


def test_sources_take_turns_until_all_have_ended(runtime: EmotionRuntime):
    taken = [(frame.source, event.frame) for frame, event in runtime.follow([frames("a", 4), frames("b", 2)])]
    assert taken == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("a", 3)]


def test_failing_source_does_not_stop_the_others(runtime: EmotionRuntime):
    def failing() -> Iterator[Frame]:
        yield from frames("b", 2)
        raise SourceBroken("b failed")

    taken = []
    with pytest.raises(SourceBroken, match="b failed"):
        taken.extend(event.source for _, event in runtime.follow([frames("a", 5), failing()]))
    assert taken.count("a") == 5
    assert taken.count("b") == 2


def test_sources_with_the_same_name_are_rejected(runtime: EmotionRuntime):
    with pytest.raises(EmotionError, match="several sources have the same name"):
        list(runtime.follow([frames("a", 2), frames("a", 2)]))


def test_step_counts_frames_by_source(runtime: EmotionRuntime):
    image = np.zeros((96, 128, 3), np.uint8)
    seen = [runtime.step(image, index / 10) for index in range(3)]
    other = runtime.step(image, 0.0, source="door")
    assert [(event.source, event.frame, event.t) for event in [*seen, other]] == [
        ("default", 0, 0.0),
        ("default", 1, 0.1),
        ("default", 2, 0.2),
        ("door", 0, 0.0),
    ]
    assert [[person.state for person in event.persons] for event in seen] == [["new"], ["new"], ["warming"]]


def test_step_rejects_decreasing_time(runtime: EmotionRuntime):
    image = np.zeros((96, 128, 3), np.uint8)
    runtime.step(image, 1.0)
    with pytest.raises(EmotionError, match=r"t 0\.5 after t 1\.0"):
        runtime.step(image, 0.5)
    with pytest.raises(EmotionError, match="t nan"):
        runtime.step(image, float("nan"))


def test_context_manager_drops_all_state(tiny_bundle: Path):
    image = np.zeros((96, 128, 3), np.uint8)
    with EmotionRuntime(tiny_bundle, one_person, "cpu") as runtime:
        for index in range(5):
            runtime.step(image, 100 + index / 10)
    (person,) = runtime.step(image, 0.0).persons  # the tracker and the time start over
    assert (person.id, person.state) == (1, "new")
    assert runtime.step(image, 0.1).frame == 1


class CountingBackend:
    """A backend that counts how often it is closed."""

    description = "counting"

    def __init__(self) -> None:
        self.closed = 0

    def run(self, feeds: Feeds) -> Outputs:
        return dict(feeds)

    def close(self) -> None:
        self.closed += 1


def test_close_closes_the_encoders(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    encoders = [CountingBackend(), CountingBackend()]
    monkeypatch.setattr(open_pipeline, "open_encoders", lambda *_, **__: encoders)
    with EmotionRuntime(tiny_bundle, one_person, "tensorrt"):
        assert [each.closed for each in encoders] == [0, 0]
    assert [each.closed for each in encoders] == [1, 1]


def test_failed_construction_closes_the_encoders(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    encoders = [CountingBackend(), CountingBackend()]
    monkeypatch.setattr(open_pipeline, "open_encoders", lambda *_, **__: encoders)
    with pytest.raises(EmotionError, match="detect_every -1"):
        EmotionRuntime(tiny_bundle, one_person, "tensorrt", timing=Timing(detect_every=-1))
    assert [each.closed for each in encoders] == [1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp64"}, "precision 'fp64': expected fp32, fp16, int8"),
        ({"precision": "fp16"}, "precision fp16: bundle tiny has frame_encoder only in fp32"),
        ({"head": "mood"}, "head 'mood': bundle tiny has none of this name"),
        ({"timing": Timing(smoothing=-1)}, "smoothing -1"),
        ({"timing": Timing(hysteresis=2)}, "hysteresis 2"),
        ({"timing": Timing(window=0)}, "window 0"),
        ({"timing": Timing(detect_every=-1)}, "detect_every -1"),
    ],
)
def test_bad_options_are_rejected_before_the_first_frame(tiny_bundle: Path, options: dict, message: str):
    with pytest.raises(EmotionError, match=message):
        EmotionRuntime(tiny_bundle, one_person, "cpu", **options)


def test_another_head(tiny_bundle: Path):
    image = np.full((96, 128, 3), (0, 0, 255), np.uint8)
    tops = set()
    for head in ("probe", "opposite"):
        runtime = EmotionRuntime(tiny_bundle, one_person, "cpu", head=head)
        event = [runtime.step(image, index / 10) for index in range(5)][-1]
        tops.add(event.persons[0].top)
    assert len(tops) == 2  # the second head is the negative of the first


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_summary_of_a_stream_remains_and_forget_drops_it(runtime: EmotionRuntime, video: Path):
    for _ in range(2):  # a source that starts again is counted anew
        for _event in runtime.stream(video):
            pass
        found = runtime.summary()[str(video)]
        assert (found.frames, found.seconds) == (12, pytest.approx(1.2))
        assert [person.id for person in found.persons] == [1]
    runtime.forget(str(video))
    assert runtime.summary() == {}


def test_forgotten_source_starts_over(runtime: EmotionRuntime):
    image = np.zeros((96, 128, 3), np.uint8)
    for index in range(5):
        runtime.step(image, 100 + index / 10, source="door")
    runtime.forget("door")
    runtime.forget("never seen")
    assert runtime._pipeline.person_ids() == {}
    event = runtime.step(image, 0.0, source="door")
    assert (event.frame, event.t) == (0, 0.0)


def test_every_exported_name_exists():
    for name in emotion_runtime.__all__:
        assert getattr(emotion_runtime, name) is not None


def test_run_line_says_what_made_the_events(runtime: EmotionRuntime, tiny_bundle: Path):
    line = runtime.run_line({"smoothing": 0.5})
    assert (line.version, line.bundle, line.head) == (emotion_runtime.__version__, "tiny", "probe")
    assert line.bundle_sha256 == hashlib.sha256((tiny_bundle / "bundle.json").read_bytes()).hexdigest()
    assert line.options == {"smoothing": 0.5}


def test_package_import_is_light():
    code = (
        "import sys, emotion_runtime; emotion_runtime.__version__;"
        "print([m for m in ('numpy', 'cv2', 'msgspec', 'onnxruntime', 'torch') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_api_imports_without_onnxruntime_and_torch():
    code = (
        "import sys; sys.modules.update({'onnxruntime': None, 'torch': None});"
        "from emotion_runtime import EmotionRuntime, Timing, EmotionError, EmotionEvent, Person;"
        "print(EmotionRuntime.__name__)"
    )
    assert run_python(code) == "EmotionRuntime"


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="EmotionRunner"):
        emotion_runtime.EmotionRunner  # noqa: B018 - the access is the test
