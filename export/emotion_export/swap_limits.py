"""Measure how similar the embeddings of one person and of different people are: the manifest's `swap`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.detectors import load_detector
from emotion_runtime.encoder import FrameEncoder
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Manifest, SwapLimits
from emotion_runtime.ring import EARLY_TOLERANCE
from emotion_runtime.sources import open_source
from emotion_runtime.subject import plan_crops
from emotion_runtime.swaps import COMPARED, similarity
from emotion_runtime.tracker import Tracker

_LEAST = 10  # embeddings of a person; others were in view for too short a time
_MARGIN = 0.01  # below the lowest cosine within a person: other videos have lower ones
_FOUND = 90  # percentage of changes to somebody else that the suspicious limit finds, unless
_MISTAKEN = 10  # it would take more than this percentage of a person's own embeddings for somebody else's


def measure_swap_limits(manifest: Manifest, folder: Path, videos: Sequence[str]) -> SwapLimits:
    """Return the limits of a bundle.

    Args:
        manifest: The content of its bundle.json.
        folder: Its folder, which contains the frame encoder.
        videos: Videos in which every person stays in view.

    Raises:
        EmotionError: A video cannot be read, or there are fewer than two people.
    """
    backend = OnnxBackend(folder / manifest.graphs["frame_encoder"].file)
    encoder = FrameEncoder(backend, manifest.preprocess)
    every = manifest.clip_seconds / manifest.clip_frames
    people = [person for uri in videos for person in embeddings_in(uri, encoder, every)]
    if len(people) < 2:
        raise EmotionError(
            f"--swap-videos {' '.join(videos)}: {len(people)} people stay in view for {_LEAST} embeddings, "
            "expected at least two: give more or longer videos"
        )
    return limits_of(people)


def embeddings_in(uri: str, encoder: FrameEncoder, every: float) -> list[NDArray[np.float32]]:
    """Return the embeddings (N, D) of each person in a video."""
    detect, tracker = load_detector("face"), Tracker()
    found: dict[int, list[NDArray[np.float32]]] = {}
    latest = -np.inf
    with open_source(uri) as source:
        for frame in source:
            tracks = [t for t in tracker.update(detect(frame.image), frame.t) if t.seen and t.confirmed]
            if not tracks or frame.t - latest < every * (1 - EARLY_TOLERANCE):
                continue
            latest = frame.t
            height, width = frame.image.shape[:2]
            crops = plan_crops([track.box for track in tracks], height, width, encoder.spec)
            embeddings = encoder.embed(encoder.gather([(frame.image, crops)]))
            for track, embedding in zip(tracks, embeddings, strict=True):
                found.setdefault(track.id, []).append(embedding)
    return [np.stack(each) for each in found.values() if len(each) >= _LEAST]


def limits_of(people: Sequence[NDArray[np.float32]]) -> SwapLimits:
    """Return the limits for the embeddings (N, D) of at least two people, in order of time.

    `always` is a little below the lowest cosine between an embedding and those of the same person before it.
    `suspicious` finds most changes from one person to another, where people are similar enough to themselves.
    """
    within = [
        similarity(person[i], list(person[max(i - COMPARED, 0) : i]))
        for person in people
        for i in range(1, len(person))
    ]
    between = [
        similarity(other[i], list(person[i - COMPARED : i]))
        for person in people
        for other in people
        if other is not person
        for i in range(COMPARED, min(len(person), len(other)))
    ]
    always = max(min(within) - _MARGIN, -1.0)
    suspicious = min(float(np.percentile(between, _FOUND)), float(np.percentile(within, _MISTAKEN)))
    return SwapLimits(round(always, 3), round(max(always, suspicious), 3))
