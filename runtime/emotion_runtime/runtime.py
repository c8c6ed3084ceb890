"""The runtime as a Python object: models loaded once, events from any number of sources."""

import math
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
from emotion_runtime.heads import load_affect_head, load_head
from emotion_runtime.manifest import Precision
from emotion_runtime.metrics import StageTimer
from emotion_runtime.pipeline import Models, Pipeline, Timing
from emotion_runtime.ring import plan_clips
from emotion_runtime.sources import open_source
from emotion_runtime.types import EmotionEvent, Frame


class EmotionRuntime:
    """How each person in front of a camera feels.

    bundle: name of a shipped bundle or a folder. detector: "face", an ONNX file, or your own callable.
    backend, precision: see `backends.open_encoders`. head: of the bundle; None: its default. timing: what
    happens how often.

        for event in EmotionRuntime().stream("people.mp4"):
            print(event.t, [(person.id, person.top) for person in event.persons])

    Raises:
        EmotionError: a part is missing, broken or unknown.

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
        found = load_detector(str(detector)) if isinstance(detector, str | Path) else detector
        # Last, since it may begin to build an engine, which nothing that is wrong elsewhere should.
        frame_encoder, temporal_encoder = open_encoders(backend, loaded, precision)
        with ExitStack() as held:  # until the rest is found to be right
            held.callback(frame_encoder.close)
            held.callback(temporal_encoder.close)
            models = Models(
                found,
                FrameEncoder(frame_encoder, manifest.preprocess),
                TemporalEncoder(temporal_encoder),
                loaded_head,
                affect_head,
            )
            self._pipeline = Pipeline(models, clips, timing)
            self._held = held.pop_all()
        self._encoder = frame_encoder
        self.labels: tuple[str, ...] = models.head.labels
        self.experimental = manifest.heads[head or manifest.default_head].experimental
        self._steps: dict[str, tuple[int, float]] = {}  # index and t of the last frame `step` was given

    @property
    def backend(self) -> str:
        """What runs the encoders now, for people; changes when an engine that was being built takes over."""
        return self._encoder.description

    @property
    def timer(self) -> StageTimer:
        """Time spent by stage so far."""
        return self._pipeline.timer

    def stream(self, *sources: str | int | Path, realtime: bool = False) -> Iterator[EmotionEvent]:
        """Events of one or several sources, one a frame, until all have ended.

        sources: see `emotion_runtime.sources.open_source`. realtime: drop frames of files that come too late.

        Raises:
            EmotionError: no source, or one that cannot be opened or (`SourceBroken`) broke midway.

        """
        if not sources:
            raise EmotionError("nothing to look at: expected a file, `demo` or a camera number")
        with ExitStack() as stack:
            opened = [stack.enter_context(open_source(uri, realtime=realtime)) for uri in sources]
            for _, event in self.follow(opened):
                yield event

    def follow(self, sources: Sequence[Iterable[Frame]]) -> Iterator[tuple[Frame, EmotionEvent]]:
        """Every frame of some sources with its event, in turn, until all have ended.

        One frame of each source makes one step, so that all their persons share one call of the encoder.
        A source that breaks midway does not stop the others.

        Raises:
            SourceBroken: after the last event, if a source broke midway.

        """
        waiting = {number: iter(source) for number, source in enumerate(sources)}
        names: dict[int, str] = {}
        broken: SourceBroken | None = None
        try:
            while waiting:
                frames: list[Frame] = []
                for number, source in list(waiting.items()):
                    try:
                        with self.timer.stage("read"):
                            frame = next(source, None)
                    except SourceBroken as error:
                        broken, frame = broken or error, None
                    if frame is None:
                        del waiting[number]
                        if number in names:
                            self._pipeline.forget(names.pop(number))
                    else:
                        names[number] = frame.source
                        frames.append(frame)
                if len(set(names.values())) < len(names):
                    raise EmotionError(f"sources of one name ({', '.join(names.values())}): give each once")
                yield from zip(frames, self._pipeline.step_all(frames), strict=True)
        finally:
            # Whoever stops looking may look again from the start, where time would run backwards.
            for name in names.values():
                self._pipeline.forget(name)
        if broken:
            raise broken

    def step(self, image_bgr: NDArray[np.uint8], t: float, *, source: str = "default") -> EmotionEvent:
        """One frame of your own loop to its event.

        image_bgr: (H, W, 3) uint8 BGR. t: seconds, not decreasing within a source. source: whose frame it is;
        persons are told apart by source and id.

        Raises:
            EmotionError: the picture or the time is not as said.

        """
        if (
            image_bgr.dtype != np.uint8
            or image_bgr.ndim != 3
            or image_bgr.shape[2] != 3
            or not image_bgr.size
        ):
            raise EmotionError(
                f"picture of shape {image_bgr.shape} and type {image_bgr.dtype}: "
                "expected (height, width, 3) uint8 BGR"
            )
        last_index, last_t = self._steps.get(source, (-1, -math.inf))
        if not last_t <= t < math.inf:
            raise EmotionError(
                f"source {source!r}: t {t} comes after {last_t}: expected seconds that do not decrease"
            )
        index = last_index + 1
        self._steps[source] = index, t
        return self._pipeline.step(Frame(image_bgr, index, t, source))

    def __enter__(self) -> "EmotionRuntime":  # noqa: PYI034 - typing.Self came with Python 3.11
        """The runtime itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `close`."""
        self.close()

    def close(self) -> None:
        """Forget all persons of all sources, and give back the GPU's memory.

        On ONNX Runtime the next frame starts anew; a TensorRT engine cannot run again.
        """
        for source in self._pipeline.person_ids():
            self._pipeline.forget(source)
        self._steps.clear()
        self._held.close()
