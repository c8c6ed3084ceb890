"""Count what a run found, kept and left out."""

from collections import Counter
from collections.abc import Iterable
from typing import get_args

import msgspec
import numpy as np

from emotion_train.language.labels import EKMAN
from emotion_train.prepare.pairing import VideoPairs
from emotion_train.prepare.settings import PrepareSettings, SentenceOutcome
from emotion_train.prepare.work import VideoResult

SECONDS_STEP, SECONDS_END = 0.5, 15.0  # bins of durations; the last includes all longer ones
NEUTRAL_STEP = 0.05
MOST_PERSONS = 8  # bins of people in a frame; the last includes larger numbers


class Histogram(msgspec.Struct, frozen=True):
    """counts[i] values lie in [edges[i], edges[i + 1]); the last bin includes all larger values."""

    edges: list[float]
    counts: list[int]


class Statistics(msgspec.Struct, frozen=True):
    """The content of `statistics.json`.

    Attributes:
        broken: Why a video could not be used, by its name.
        sentences: Number of sentences by outcome.
        bytes: Size of all shards.
        seconds: Durations of all sentences.
        kept_seconds: Durations of the clips.
        neutral: Probability of neutral of the sentences that were scored.
        persons: Number of frames by number of detections, 0 to `MOST_PERSONS`.
        sentiment: Number of clips by their most probable class.
    """

    settings: PrepareSettings
    videos: int
    broken: dict[str, str]
    videos_without_captions: list[str]
    captions_without_video: list[str]
    excluded: list[str]
    cues: int
    overlapping_cues: int
    repeated_cues: int
    sentences: dict[str, int]
    clips: int
    clips_without_persons: int
    clip_seconds: float
    frames: int
    frames_without_persons: int
    shards: int
    bytes: int
    seconds: Histogram
    kept_seconds: Histogram
    neutral: Histogram
    persons: list[int]
    sentiment: dict[str, int]


def gather(
    settings: PrepareSettings, pairs: VideoPairs, results: list[VideoResult], *, shards: int, size: int
) -> Statistics:
    """Collect the statistics of a run.

    Args:
        settings: Of the run.
        pairs: The matched and unmatched files.
        results: Of all videos.
        shards: Number of shards.
        size: Bytes of all shards.
    """
    facts = [fact for result in results for fact in result.sentences]
    clips = [clip for result in results for clip in result.clips]
    outcomes = Counter(fact.outcome for fact in facts)
    persons = Counter(min(count, MOST_PERSONS) for clip in clips for count in clip.persons)
    kept = [fact.seconds for fact in facts if fact.outcome == "kept"]
    return Statistics(
        settings=settings,
        videos=len(results),
        broken={result.name: result.error for result in results if result.error is not None},
        videos_without_captions=pairs.videos_without_captions,
        captions_without_video=pairs.captions_without_video,
        excluded=pairs.excluded,
        cues=sum(result.captions.cues for result in results),
        overlapping_cues=sum(result.captions.overlapping for result in results),
        repeated_cues=sum(result.captions.repeated for result in results),
        sentences={outcome: outcomes[outcome] for outcome in get_args(SentenceOutcome)},
        clips=len(clips),
        clips_without_persons=sum(not any(clip.persons) for clip in clips),
        clip_seconds=round(sum(kept), 3),
        frames=sum(clip.frames for clip in clips),
        frames_without_persons=persons[0],
        shards=shards,
        bytes=size,
        seconds=histogram((fact.seconds for fact in facts), SECONDS_STEP, SECONDS_END),
        kept_seconds=histogram(kept, SECONDS_STEP, SECONDS_END),
        neutral=histogram((fact.neutral for fact in facts if fact.neutral is not None), NEUTRAL_STEP, 1.0),
        persons=[persons[count] for count in range(MOST_PERSONS + 1)],
        sentiment=dict(zip(EKMAN, _counts([clip.sentiment for clip in clips], len(EKMAN)), strict=True)),
    )


def histogram(values: Iterable[float], step: float, end: float) -> Histogram:
    """Count values >= 0 in bins of width `step`; the last bin includes all from `end - step` on."""
    bins = round(end / step)
    # Rounded first, since 0.3 / 0.1 is less than 3.
    bin_indices = [min(int(round(value / step, 6)), bins - 1) for value in values]
    return Histogram([round(step * n, 6) for n in range(bins + 1)], _counts(bin_indices, bins))


def _counts(indices: list[int], size: int) -> list[int]:
    counts: list[int] = np.bincount(np.array(indices, np.int64), minlength=size).tolist()
    return counts
