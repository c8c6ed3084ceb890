"""Open the models of a bundle and make a pipeline of them."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emotion_runtime import __version__
from emotion_runtime.backends.base import Backend
from emotion_runtime.bundle import Bundle, load_bundle, sha256_of
from emotion_runtime.detector_backend import run_network
from emotion_runtime.detectors import Detector, head_finder
from emotion_runtime.detectors.network import Network, NetworkDetector
from emotion_runtime.encoder import FrameEncoder, TemporalEncoder
from emotion_runtime.heads import load_affect_head, load_head
from emotion_runtime.manifest import MANIFEST
from emotion_runtime.models import Models
from emotion_runtime.names import Precision
from emotion_runtime.open_backend import open_encoders
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.ring import plan_clips
from emotion_runtime.timing import Timing
from emotion_runtime.types import RunLine

if TYPE_CHECKING:
    from emotion_runtime.fastest_backend import TimedChoice


@dataclass(frozen=True, slots=True)
class Execution:
    """How models are run.

    Attributes:
        backend: What runs the encoders, see `open_backend.open_encoders`.
        precision: Their numeric precision, see `open_backend.open_encoders`.
        live: All sources are live: a backend may be chosen by time, and replaced by another while it runs.
    """

    backend: str = "auto"
    precision: Precision | None = None
    live: bool = False


@dataclass(frozen=True, slots=True)
class OpenPipeline:
    """A pipeline, and what was opened for it.

    Attributes:
        pipeline: The pipeline.
        encoder: What runs the frame encoder.
        labels: Names of the emotions that the head predicts.
        experimental: Whether the model card marks the head as experimental.
        run_line: The first line of a JSONL file; of the options, those that were chosen by time.
        held: Closes the encoders.
        width: D, length of an embedding.
    """

    pipeline: Pipeline
    encoder: Backend
    labels: tuple[str, ...]
    experimental: bool
    run_line: RunLine
    held: ExitStack
    width: int


def open_pipeline(
    bundle: str | Path, detector: Detector, execution: Execution, *, head: str | None, timing: Timing
) -> OpenPipeline:
    """Open the models of a bundle.

    Args:
        bundle: Name of a shipped bundle, or the folder of a bundle.
        detector: Finds people; its network is run like the encoders, if it has one.
        execution: How the models are run.
        head: Name of a head of the bundle. None: the bundle's default.
        timing: Time constants.

    Raises:
        EmotionError: The bundle, backend, head or a file of them is missing, corrupt or unknown.
    """
    loaded = load_bundle(bundle)
    manifest = loaded.manifest
    clips = plan_clips(manifest.clip_frames, manifest.clip_seconds, window=timing.window, every=timing.every)
    loaded_head, affect_head = load_head(loaded, head), load_affect_head(loaded)
    # Opened last: it may start a long engine build, so every other error must surface first.
    backend, precision, live = execution.backend, execution.precision, execution.live
    choice = _timed_choice(loaded, detector, precision) if live and backend == "auto" else None
    with ExitStack() as held:  # closes them if the rest fails
        if choice is None:
            frame_encoder, temporal_encoder = open_encoders(backend, loaded, precision, live=live)
        else:
            frame_encoder, temporal_encoder = choice.open_encoders(loaded, precision)
        held.callback(frame_encoder.close)
        held.callback(temporal_encoder.close)
        if isinstance(detector, NetworkDetector):
            network = _run(detector, execution, choice, frame_encoder)
            held.callback(network.close)
        models = Models(
            detector,
            FrameEncoder(frame_encoder, manifest.preprocess),
            TemporalEncoder(temporal_encoder),
            loaded_head,
            affect_head,
            head_finder(detector),
            manifest.swap,
            manifest.quality,
        )
        pipeline, kept = Pipeline(models, clips, timing), held.pop_all()
    name = head or manifest.default_head
    return OpenPipeline(
        pipeline=pipeline,
        encoder=frame_encoder,
        labels=loaded_head.labels,
        experimental=manifest.heads[name].experimental,
        run_line=RunLine(
            version=__version__,
            bundle=manifest.name,
            bundle_sha256=sha256_of(loaded.folder / MANIFEST),
            head=name,
            options=choice.options(frame_encoder.name) if choice else {},
        ),
        held=kept,
        width=manifest.embedding_dim,
    )


def _run(
    detector: NetworkDetector, execution: Execution, choice: "TimedChoice | None", encoder: Backend
) -> Network:
    """Run the detector on the requested backend, else on the fastest, else on that of the encoders."""
    by_name = execution.backend != "auto"
    runs_in, threads = (execution.backend if by_name else encoder.name), 0
    if choice:
        runs_in, threads = choice.for_detector.backend, choice.for_detector.threads
    return run_network(
        detector,
        runs_in,
        threads=threads,
        by_name=by_name,
        precision=execution.precision,
        live=execution.live,
    )


def _timed_choice(bundle: Bundle, detector: Detector, precision: Precision | None) -> "TimedChoice | None":
    from emotion_runtime.fastest_backend import fastest_backend  # noqa: PLC0415 - loads the parity check

    return fastest_backend(bundle, detector, precision)
