"""The Python API: load the models once, get events from any number of sources."""

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.detectors import Detector, open_detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.feature_log import FeatureLog
from emotion_runtime.following import Following, OnStatus, Step
from emotion_runtime.forks import NO_COPY, check_process, keep_in_children
from emotion_runtime.inputs import OwnFrames, check_name, check_options, check_precision, check_sources
from emotion_runtime.metrics import StageTimer
from emotion_runtime.names import DetectorSize, Precision
from emotion_runtime.open_pipeline import Execution, open_pipeline
from emotion_runtime.photos import look_at
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.privacy.image_filter import ImageFilter, Privacy
from emotion_runtime.rates import Rates
from emotion_runtime.rounds import Rounds
from emotion_runtime.streams import Stream, StreamSources
from emotion_runtime.summary import SourceSummary, Summary
from emotion_runtime.timing import Timing
from emotion_runtime.types import EmotionEvent, Frame, Person, RunLine

Image = NDArray[np.uint8]  # (H, W, 3) BGR


class EmotionRuntime:
    """Estimates how each person in front of a camera appears to feel.

    Make one in each process: in a process forked from the one that made it, every use is an error. Threads
    can share one; their frames and photos take turns.

    Args:
        bundle: Name of a shipped bundle, or the folder of a bundle.
        detector: "face", an ONNX file, or your own callable.
        backend: What runs the encoders, see `open_backend.open_encoders`.
        head: Name of a head of the bundle. None: the bundle's default.
        timing: Time constants, see `timing.Timing`.
        precision: Numeric precision of the encoders, see `open_backend.open_encoders`.
        detector_size: Long side in pixels to which the detector resizes a frame, see `load_detector`.
        detector_score: Minimum score of a detection, also of somebody new. None: the detector's own
            default, and 0.5 for somebody new.
        privacy: What is hidden in images, see `Privacy`; frames of `stream` come with hidden people.
        live: All sources are cameras or streams, which do not wait, and whose results need not be the same in
            every run: "auto" takes the fastest backend, and engines are built while another backend serves.

    Attributes:
        labels: Names of the emotions that the head predicts.
        experimental: Whether the model card marks the head as experimental.

    Raises:
        EmotionError: The bundle, detector, backend, head or a file of them is missing, corrupt or unknown.

    Example::

        for event in EmotionRuntime().stream("people.mp4"):
            print(event.t, [(person.id, person.top) for person in event.persons])
    """

    def __init__(  # noqa: PLR0913 - options of a public constructor, given by name
        self,
        bundle: str | Path = "nano",
        detector: str | Path | Detector = "face",
        backend: str = "auto",
        *,
        head: str | None = None,
        timing: Timing | None = None,
        precision: Precision | None = None,
        detector_size: DetectorSize = "auto",
        detector_score: float | None = None,
        privacy: Privacy | None = None,
        live: bool = False,
        **unknown: NoReturn,
    ) -> None:
        check_options(bundle, detector, timing, unknown)
        check_precision(precision)
        images = ImageFilter(privacy)  # rejects mistakes before the models are loaded
        opened = open_pipeline(
            bundle,
            open_detector(detector, size=detector_size, score=detector_score),
            Execution(backend, precision, live),
            head=head,
            timing=timing or Timing(),
        )
        self._loaded, self._held = opened.pipeline, opened.held
        self._loaded.images = images
        self._process = os.getpid()
        keep_in_children(self)
        self._encoder, self._width = opened.encoder, opened.width
        self.labels, self.experimental = opened.labels, opened.experimental
        self._run_line = opened.run_line
        self._own = OwnFrames()
        self._summary = Summary()
        self._following = Following(self._loaded, self._summary, lambda: check_process(self._process))

    def __repr__(self) -> str:
        """Return what the runtime was made from."""
        line = self._run_line
        return f"EmotionRuntime(bundle={line.bundle!r}, head={line.head!r}, backend={self.backend!r})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or sent to another process."""
        raise EmotionError(NO_COPY)

    @property
    def backend(self) -> str:
        """Description of what runs the encoders; it changes when a newly built engine takes over."""
        return self._encoder.description

    @property
    def _pipeline(self) -> Pipeline:
        check_process(self._process)
        return self._loaded

    @property
    def timer(self) -> StageTimer:
        """Time spent so far, by stage."""
        return self._pipeline.timer

    @overload
    def stream(
        self,
        *sources: str | int | Path,
        realtime: bool = False,
        follow: bool = False,
        on_status: OnStatus | None = None,
        with_frames: Literal[False] = False,
    ) -> Stream[EmotionEvent]: ...

    @overload
    def stream(
        self,
        *sources: str | int | Path,
        realtime: bool = False,
        follow: bool = False,
        on_status: OnStatus | None = None,
        with_frames: Literal[True],
    ) -> Stream[tuple[Frame, EmotionEvent]]: ...

    def stream(
        self,
        *sources: str | int | Path,
        realtime: bool = False,
        follow: bool = False,
        on_status: OnStatus | None = None,
        with_frames: bool = False,
    ) -> Stream[Any]:
        """Return the events of one or several sources, one per frame, until all have ended.

        The result is for `for` and for `async for`; sources can be added to it and removed from it, see
        `Stream`. The sources are opened when the iteration starts. A camera or stream that cannot be opened,
        or is lost, is no error: it is opened again until it is there, and `on_status` is told.

        Args:
            sources: See `emotion_runtime.open_source`.
            realtime: Play files at their own speed and drop frames that come too late.
            follow: At the end of a video file, wait for more: another program is still writing it.
            on_status: Is called with every change of the status of a camera or stream, in the thread of the
                loop, and in order with the events.
            with_frames: Yield pairs of a `Frame` and its event, for example to draw on the image.

        Raises:
            EmotionError: There is no source, or one is not a path, URI or number. While iterating: a file
                cannot be opened, or it failed midway (`SourceBroken`, after the last event).
        """
        check_sources(sources)
        opening = StreamSources(Rounds([], self.timer), realtime=realtime, follow=follow)
        events = opening.results(sources, partial(self.follow, on_status=on_status), with_frames=with_frames)
        return Stream(events, opening)

    def follow(
        self, sources: Sequence[Iterable[Frame]] | Rounds, *, on_status: OnStatus | None = None
    ) -> Iterator[tuple[Frame, EmotionEvent]]:
        """Yield every frame of several sources with its event, until all have ended.

        No source waits for another one, but files, which advance by media time; see `rounds.Rounds`. Frames
        that go together share one call of the encoder. A source that fails midway does not stop the others.

        Args:
            sources: Frames of each source, in order of time: what `open_source` returns, or iterables of your
                own. Beside a source with times of capture (`Frame.captured`), these are read in threads.
            on_status: See `stream`.

        Raises:
            EmotionError: Two sources have the same name, or a source was opened again meanwhile.
            SourceBroken: One or more sources failed midway; raised after the last event.
        """
        rounds = sources if isinstance(sources, Rounds) else Rounds(sources, self.timer)
        return self._following.events(rounds, on_status)

    def steps(self, rounds: Rounds) -> Generator[Step, None, None]:
        """Yield events in steps, with changes of the status, for programs that act while no frame comes."""
        return self._following.steps(rounds)

    def step(self, image_bgr: Image, t: float, *, source: str = "default") -> EmotionEvent:
        """Return the event of one frame of your own loop.

        Args:
            image_bgr: (H, W, 3) uint8 BGR.
            t: Seconds, not decreasing within a source.
            source: Name of the source; a person is identified by source and id. See `forget`.

        Raises:
            EmotionError: The image, the time or the source is not as described.
        """
        event = self._pipeline.step(self._own.frame(image_bgr, t, source))
        self._summary.add(event)
        return event

    @overload
    def look(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
        self, image: Image | str | Path
    ) -> list[Person]: ...

    @overload
    def look(self, image: Sequence[Image | str | Path]) -> list[list[Person]]: ...

    def look(
        self, image: Image | str | Path | Sequence[Image | str | Path]
    ) -> list[Person] | list[list[Person]]:
        """Return the people in one photo, or those in each of several photos.

        Args:
            image: (H, W, 3) uint8 BGR, or the path of an image file, which is turned upright as it says; or a
                list of them.

        Returns:
            The people of the photo, from left to right, with the state "photo". For a list, one such list per
            photo.

        Raises:
            EmotionError: An image is not as described, or a file cannot be read.
        """
        if isinstance(image, list | tuple):
            return look_at(self._pipeline, image)
        return look_at(self._pipeline, [image])[0]

    def forget(self, source: str = "default") -> None:
        """Drop all state of a source: its people, its time and its summary. It may start anew at any time.

        Args:
            source: The name given to `step`. A source of `stream` is forgotten when it ends, all but its
                summary. Nothing happens if there is no such source.

        Raises:
            EmotionError: The name is not a text.
        """
        self._pipeline.forget(check_name(source))
        self._summary.forget(source)
        self._own.forget(source)

    def summary(self) -> dict[str, SourceSummary]:
        """Return how long each person was seen, and with which emotions, by source since its latest start."""
        return self._summary.by_source()

    def keep_features(self) -> FeatureLog:
        """Return a log that gets the features of every clip from now on; take those of each frame from it."""
        log = FeatureLog(self._width, self.labels)
        self._pipeline.features = log
        return log

    def rates(self) -> dict[str, Rates]:
        """Return how often people were detected and encoded lately, by source that is not over."""
        return self._pipeline.rates()

    def run_line(self, options: Mapping[str, Any] | None = None) -> RunLine:
        """Return the first line of a JSONL file; `options` are those that differ from their defaults."""
        return msgspec.structs.replace(self._run_line, options={**self._run_line.options, **(options or {})})

    def __enter__(self) -> "EmotionRuntime":  # noqa: PYI034 - typing.Self came with Python 3.11
        """Return the runtime itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the runtime, see `close`."""
        self.close()

    def close(self) -> None:
        """Drop the state of all sources, and free the GPU's memory.

        With ONNX Runtime the runtime can still be used afterwards; a TensorRT engine cannot run again.
        In a forked process nothing is done: the models belong to the process that made them.
        """
        if os.getpid() != self._process:
            return
        for source in self._pipeline.person_ids():
            self._pipeline.forget(source)
        self._own = OwnFrames()
        self._held.close()
