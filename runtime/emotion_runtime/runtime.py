"""The Python API: load the models once, get events from any number of sources."""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends import open_encoders
from emotion_runtime.bundle import load_bundle
from emotion_runtime.detectors import Detector, load_detector
from emotion_runtime.encoder import FrameEncoder, TemporalEncoder
from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.forks import check_process, keep_in_children
from emotion_runtime.heads import load_affect_head, load_head
from emotion_runtime.manifest import Precision
from emotion_runtime.metrics import StageTimer
from emotion_runtime.pipeline import Models, Pipeline, Timing
from emotion_runtime.ring import plan_clips
from emotion_runtime.sources import open_source
from emotion_runtime.types import EmotionEvent, Frame


class EmotionRuntime:
    """Estimates how each person in front of a camera appears to feel.

    Make one in each process: in a process forked from the one that made it, every use is an error.

    Args:
        bundle: Name of a shipped bundle, or the folder of a bundle.
        detector: "face", an ONNX file, or your own callable.
        backend: What runs the encoders, see `backends.open_encoders`.
        head: Name of a head of the bundle. None: the bundle's default.
        timing: Time constants, see `pipeline.Timing`.
        precision: Numeric precision of the encoders, see `backends.open_encoders`.

    Attributes:
        labels: Names of the emotions that the head predicts.
        experimental: Whether the model card marks the head as experimental.

    Raises:
        EmotionError: The bundle, detector, backend, head or a file of them is missing, corrupt or unknown.

    Example::

        for event in EmotionRuntime().stream("people.mp4"):
            print(event.t, [(person.id, person.top) for person in event.persons])
    """

    def __init__(
        self,
        bundle: str | Path = "nano",
        detector: str | Path | Detector = "face",
        backend: str = "auto",
        *,
        head: str | None = None,
        timing: Timing | None = None,
        precision: Precision | None = None,
    ) -> None:
        if precision is not None and precision not in get_args(Precision):
            raise EmotionError(f"precision {precision!r}: expected {', '.join(get_args(Precision))}")
        timing = timing or Timing()
        loaded = load_bundle(bundle)
        manifest = loaded.manifest
        clips = plan_clips(
            manifest.clip_frames, manifest.clip_seconds, window=timing.window, every=timing.every
        )
        loaded_head, affect_head = load_head(loaded, head), load_affect_head(loaded)
        detect = load_detector(str(detector)) if isinstance(detector, str | Path) else detector
        # Opened last: it may start a long engine build, so every other error must surface first.
        frame_encoder, temporal_encoder = open_encoders(backend, loaded, precision)
        with ExitStack() as held:  # closes them if the rest fails
            held.callback(frame_encoder.close)
            held.callback(temporal_encoder.close)
            models = Models(
                detect,
                FrameEncoder(frame_encoder, manifest.preprocess),
                TemporalEncoder(temporal_encoder),
                loaded_head,
                affect_head,
            )
            self._loaded = Pipeline(models, clips, timing)
            self._held = held.pop_all()
        self._process = os.getpid()
        keep_in_children(self)
        self._encoder = frame_encoder
        self.labels: tuple[str, ...] = models.head.labels
        self.experimental = manifest.heads[head or manifest.default_head].experimental
        self._steps: dict[str, tuple[int, float]] = {}  # index and t of the last frame `step` was given

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

    def stream(self, *sources: str | int | Path, realtime: bool = False) -> Iterator[EmotionEvent]:
        """Yield one event per frame of one or several sources, until all have ended.

        Args:
            sources: See `emotion_runtime.sources.open_source`.
            realtime: Play files at their own speed and drop frames that come too late.

        Raises:
            EmotionError: There is no source, a source cannot be opened, or it failed midway (`SourceBroken`).
        """
        if not sources:
            raise EmotionError("no source: expected a file, `demo` or a camera number")
        with ExitStack() as stack:
            opened = [stack.enter_context(open_source(uri, realtime=realtime)) for uri in sources]
            for _, event in self.follow(opened):
                yield event

    def follow(self, sources: Sequence[Iterable[Frame]]) -> Iterator[tuple[Frame, EmotionEvent]]:
        """Yield every frame of several sources with its event, in turn, until all have ended.

        Each step takes one frame of every source, so that all their persons share one call of the encoder.
        A source that fails midway does not stop the others.

        Args:
            sources: Frames of each source, in order of time.

        Raises:
            EmotionError: Two sources have the same name.
            SourceBroken: A source failed midway; raised after the last event.
        """
        active = {index: iter(source) for index, source in enumerate(sources)}
        names: dict[int, str] = {}
        broken: SourceBroken | None = None
        try:
            while active:
                frames: list[Frame] = []
                for index, source in list(active.items()):
                    try:
                        with self.timer.stage("read"):
                            frame = next(source, None)
                    except SourceBroken as error:
                        broken, frame = broken or error, None
                    if frame is None:
                        del active[index]
                        if index in names:
                            self._pipeline.forget(names.pop(index))
                    else:
                        names[index] = frame.source
                        frames.append(frame)
                if len(set(names.values())) < len(names):
                    raise EmotionError(
                        f"several sources have the same name ({', '.join(names.values())}): give each once"
                    )
                yield from zip(frames, self._pipeline.step_all(frames), strict=True)
        finally:
            # The caller may iterate again from the beginning, which would look like time running backwards.
            for name in names.values():
                self._loaded.forget(name)
        if broken:
            raise broken

    def step(self, image_bgr: NDArray[np.uint8], t: float, *, source: str = "default") -> EmotionEvent:
        """Return the event of one frame of your own loop.

        Args:
            image_bgr: (H, W, 3) uint8 BGR.
            t: Seconds, not decreasing within a source.
            source: Name of the source; a person is identified by source and id.

        Raises:
            EmotionError: The image or the time is not as described.
        """
        if (
            image_bgr.dtype != np.uint8
            or image_bgr.ndim != 3
            or image_bgr.shape[2] != 3
            or not image_bgr.size
        ):
            raise EmotionError(
                f"image of shape {image_bgr.shape} and type {image_bgr.dtype}: "
                "expected (height, width, 3) uint8 BGR"
            )
        last_index, last_t = self._steps.get(source, (-1, -math.inf))
        if not last_t <= t < math.inf:
            raise EmotionError(
                f"source {source!r}: t {t} after t {last_t}; expected seconds that do not decrease"
            )
        index = last_index + 1
        self._steps[source] = index, t
        return self._pipeline.step(Frame(image_bgr, index, t, source))

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
        self._steps.clear()
        self._held.close()
