"""A whole run: process every video to the work folder, pack the work folder to shards, write statistics."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from tqdm import tqdm

from emotion_runtime.errors import EmotionError
from emotion_train.prepare.authors_video import convert_video, find_videos
from emotion_train.prepare.pack import pack
from emotion_train.prepare.page import write_page
from emotion_train.prepare.pairing import VideoPairs, pair
from emotion_train.prepare.pools import run_local, run_ray
from emotion_train.prepare.raw_video import prepare_video
from emotion_train.prepare.settings import ModelNames, PrepareSettings
from emotion_train.prepare.statistics import Statistics, gather
from emotion_train.prepare.work import VideoJob, VideoResult, claim, read_result

WORK_NAME = "work"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WorkerPool:
    """Where videos are processed.

    Attributes:
        kind: Processes of this machine, or Ray.
        workers: Number of processes on this machine.
        address: Of a Ray cluster; None starts Ray on this machine.
    """

    kind: Literal["local", "ray"]
    workers: int
    address: str | None = None

    def run(self, jobs: Sequence[T], work: Callable[[T], None]) -> Iterator[None]:
        """Run all jobs; yields after each."""
        if self.kind == "ray":
            return run_ray(jobs, work, workers=self.workers, address=self.address)
        return run_local(jobs, work, workers=self.workers)


@dataclass(frozen=True, slots=True)
class ShardOutput:
    """Where the shards go, and how clips are distributed among them.

    Attributes:
        folder: Of the shards.
        seed: Of the order of clips.
        clips_per_shard: Largest number.
    """

    folder: Path
    seed: int
    clips_per_shard: int

    @property
    def work(self) -> Path:
        """Folder of the results of single videos."""
        return self.folder / WORK_NAME


def prepare_raw(
    folders: tuple[Path, Path],
    output: ShardOutput,
    settings: PrepareSettings,
    names: ModelNames,
    pool: WorkerPool,
    exclude: frozenset[str],
) -> Statistics:
    """Turn videos and captions into shards.

    Args:
        folders: Of the videos and of the captions.
        output: Where the shards go.
        settings: What the clips depend on.
        names: Of the models.
        pool: Where videos are processed.
        exclude: Names of videos to leave out.

    Raises:
        EmotionError: An input or the output is unusable; finished videos are kept.
    """
    pairs = pair(*folders, output.work, language=settings.language, exclude=exclude)
    work = partial(prepare_video, settings=settings, names=names)
    with claim(output.work, settings):
        _process(pool, [(job, job) for job in pairs.jobs], work)
        return _finish(output, settings, pairs)


def prepare_authors(
    root: Path, output: ShardOutput, settings: PrepareSettings, pool: WorkerPool, exclude: frozenset[str]
) -> Statistics:
    """Turn data that the authors' scripts prepared into shards.

    Args:
        root: Folder of the data.
        output: Where the shards go.
        settings: What the clips depend on.
        pool: Where videos are processed.
        exclude: Names of videos to leave out.

    Raises:
        EmotionError: An input or the output is unusable; finished videos are kept.
    """
    jobs, pairs = find_videos(root, output.work, exclude=exclude)
    with claim(output.work, settings):
        _process(pool, [(item.job, item) for item in jobs], partial(convert_video, settings=settings))
        return _finish(output, settings, pairs)


def _process(pool: WorkerPool, jobs: list[tuple[VideoJob, T]], work: Callable[[T], None]) -> None:
    """Run the jobs that no earlier run has finished."""
    remaining = [item for job, item in jobs if read_result(job) is None]
    if not remaining:
        return
    with tqdm(total=len(jobs), initial=len(jobs) - len(remaining), desc="videos", unit="video") as bar:
        for _ in pool.run(remaining, work):
            bar.update()


def _finish(output: ShardOutput, settings: PrepareSettings, pairs: VideoPairs) -> Statistics:
    """Write shards, index and statistics from the work folder."""
    results = [_result(job) for job in pairs.jobs]
    tars = [
        (job.tar, result.tar)
        for job, result in zip(pairs.jobs, results, strict=True)
        if result.tar is not None
    ]
    spec: dict[str, Any] = msgspec.to_builtins(settings)
    index = pack(output.folder, tars, spec, seed=output.seed, clips_per_shard=output.clips_per_shard)
    size = sum(shard.bytes for shard in index.shards)
    statistics = gather(settings, pairs, results, shards=len(index.shards), size=size)
    write_page(output.folder, statistics)
    return statistics


def _result(job: VideoJob) -> VideoResult:
    result = read_result(job)
    if result is None:
        raise EmotionError(f"{job.name}: its files changed while they were read; run the same command again")
    return result
