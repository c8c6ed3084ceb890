"""A whole run: every video to the work folder, the work folder to shards, and the statistics."""

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
    """Where the work is done. workers: processes of this machine. address: of a Ray cluster."""

    kind: Literal["local", "ray"]
    workers: int
    address: str | None = None

    def run(self, jobs: Sequence[T], work: Callable[[T], None]) -> Iterator[None]:
        """Do every job; yields after each."""
        if self.kind == "ray":
            return run_ray(jobs, work, workers=self.workers, address=self.address)
        return run_local(jobs, work, workers=self.workers)


@dataclass(frozen=True, slots=True)
class ShardOutput:
    """Where the shards go, and how clips are spread over them."""

    folder: Path
    seed: int
    clips_per_shard: int

    @property
    def work(self) -> Path:
        """Results of single videos."""
        return self.folder / WORK_NAME


def prepare_raw(
    folders: tuple[Path, Path],
    output: ShardOutput,
    settings: PrepareSettings,
    names: ModelNames,
    pool: WorkerPool,
    exclude: frozenset[str],
) -> Statistics:
    """Videos and captions, in the two folders, to shards.

    Raises:
        EmotionError: see the parts; finished videos are kept.

    """
    pairs = pair(*folders, output.work, language=settings.language, exclude=exclude)
    work = partial(prepare_video, settings=settings, names=names)
    with claim(output.work, settings):
        _do(pool, [(job, job) for job in pairs.jobs], work)
        return _finish(output, settings, pairs)


def prepare_authors(
    root: Path, output: ShardOutput, settings: PrepareSettings, pool: WorkerPool, exclude: frozenset[str]
) -> Statistics:
    """The authors' prepared data to shards.

    Raises:
        EmotionError: see the parts; finished videos are kept.

    """
    jobs, pairs = find_videos(root, output.work, exclude=exclude)
    with claim(output.work, settings):
        _do(pool, [(item.job, item) for item in jobs], partial(convert_video, settings=settings))
        return _finish(output, settings, pairs)


def _do(pool: WorkerPool, jobs: list[tuple[VideoJob, T]], work: Callable[[T], None]) -> None:
    """Do what no earlier run has done."""
    left = [item for job, item in jobs if read_result(job) is None]
    if not left:
        return
    with tqdm(total=len(jobs), initial=len(jobs) - len(left), desc="videos", unit="video") as bar:
        for _ in pool.run(left, work):
            bar.update()


def _finish(output: ShardOutput, settings: PrepareSettings, pairs: VideoPairs) -> Statistics:
    """From the work folder to shards, index and statistics."""
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
        raise EmotionError(f"{job.name}: its files changed while they were read; give the same command again")
    return result
