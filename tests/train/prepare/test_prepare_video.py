"""One video: which of its sentences become clips, with models whose outputs are given."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from made_media import flat_pictures, write_srt, write_video
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Detections
from emotion_train.language.labels import EKMAN
from emotion_train.prepare.models import PrepareModels
from emotion_train.prepare.pack import read_clip
from emotion_train.prepare.raw_video import _prepare
from emotion_train.prepare.settings import Filters, PrepareSettings
from emotion_train.prepare.work import VideoJob, VideoResult, read_result, write_result
from made_videos import H264, clock, ffmpeg, tone

SETTINGS = PrepareSettings(short_side=16)


class Finder:
    """Finds one person in every image, and counts the images."""

    def __init__(self, score: float = 0.9) -> None:
        self.score, self.images = score, []

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        self.images.append(int(image_bgr.mean()))
        return Detections(np.array([[8, 6, 16, 24]], np.float32), np.array([self.score], np.float32))


def sentiment_of(neutral: float) -> object:
    """A model that finds every sentence neutral with this probability, the rest evenly."""
    row = np.log(np.where(np.array(EKMAN) == "neutral", neutral, (1 - neutral) / 6)).astype(np.float32)
    return lambda texts: np.tile(row, (len(texts), 1))


def test_frames_are_those_that_a_player_shows_with_the_caption(tmp_path: Path):
    """Sound from 0, pictures from 3 s on, whose grey level is 20 times the seconds since then."""
    ffmpeg(*clock(9), *H264, tmp_path / "clock.mp4")
    late = tmp_path / "late.mkv"
    ffmpeg(*tone(12), "-itsoffset", 3, "-i", tmp_path / "clock.mp4", "-c:v", "copy", "-c:a", "aac", late)
    cues = [(0.2, 2.6, "I am angry."), (2.8, 5.5, "I am sad."), (6.0, 9.0, "I am so happy!")]
    finder = Finder()
    result = prepare(job_of(late, cues, tmp_path), SETTINGS, finder=finder)
    assert outcomes(result) == ["outside the video", "kept", "kept"]
    times = [grey / 20 + 3 for grey in finder.images]
    assert min(times) == pytest.approx(3.0, abs=0.15)
    happy = [time for time in times if time > 5.7]
    assert happy == pytest.approx(np.arange(6, 9, 1 / 8), abs=0.15)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 s at 10 frames a second."""
    return write_video(tmp_path_factory.mktemp("film") / "film.mkv", flat_pictures(120))


def job_of(film: Path, cues: Sequence[tuple[float, float, str]], folder: Path) -> VideoJob:
    return VideoJob("film", "film", (film, write_srt(folder / "film.srt", cues)), folder)


def prepare(
    job: VideoJob, settings: PrepareSettings, *, finder: Finder | None = None, neutral: float = 0.01
) -> VideoResult:
    return _prepare(job, job.inputs(), settings, PrepareModels(finder or Finder(), sentiment_of(neutral)))  # type: ignore[arg-type]


def outcomes(result: VideoResult) -> list[str]:
    return [fact.outcome for fact in result.sentences]


@pytest.mark.parametrize(
    ("cue", "outcome"),
    [
        ((1.0, 3.0, "Good."), "too short"),  # the paper: longer than 2 s
        ((1.0, 3.001, "Good."), "kept"),
        ((1.0, 11.0, "Good."), "too long"),  # and shorter than 10
        ((1.0, 10.999, "Good."), "kept"),
        ((1.0, 4.0, "Oh"), "too few characters"),
        ((1.0, 4.0, "Oh."), "kept"),
        ((9.0, 12.0, "Good."), "kept"),
        ((9.0, 12.4, "Good."), "kept"),  # captions stay a little longer than the film
        ((9.0, 12.7, "Good."), "outside the video"),
        ((12.3, 15.0, "Good."), "outside the video"),
        ((4.0, 13.9, "Good."), "outside the video"),
    ],
)
def test_filters_of_the_paper(cue: tuple[float, float, str], outcome: str, film: Path, tmp_path: Path):
    assert outcomes(prepare(job_of(film, [cue], tmp_path), SETTINGS)) == [outcome]


def test_a_sentence_longer_than_its_video(tmp_path: Path):
    film = write_video(tmp_path / "short.mkv", flat_pictures(30))
    assert outcomes(prepare(job_of(film, [(0.0, 9.0, "Good.")], tmp_path), SETTINGS)) == ["outside the video"]


def test_frames_after_the_end_are_not_made_up(film: Path, tmp_path: Path):
    job = job_of(film, [(9.0, 12.4, "Good.")], tmp_path)
    result = prepare(job, SETTINGS)
    assert result.tar is not None
    record, frames = read_clip(job.tar, result.tar.samples[0])
    assert len(frames) == len(record.boxes) == 24  # 9 s to 12 s
    assert (record.start, record.end) == (9.0, 12.4)


@pytest.mark.parametrize(("neutral", "outcome"), [(0.049, "kept"), (0.051, "too neutral")])
def test_neutral_sentences_are_left_out(neutral: float, outcome: str, film: Path, tmp_path: Path):
    result = prepare(job_of(film, [(1.0, 4.0, "Good.")], tmp_path), SETTINGS, neutral=neutral)
    assert outcomes(result) == [outcome]
    assert result.sentences[0].neutral == pytest.approx(neutral, abs=1e-5)


def test_too_few_frames(film: Path, tmp_path: Path):
    cues = [
        (0.0, 2.7, "Seven."),
        (3.0, 5.8, "Eight."),
    ]  # at 2.75 a second: 0, 0.36 ... 2.55; and 3.27 ... 5.45
    result = prepare(job_of(film, cues, tmp_path), msgspec.structs.replace(SETTINGS, fps=2.75))
    assert outcomes(result) == ["kept", "too few frames"]
    assert [clip.frames for clip in result.clips] == [8]


@pytest.mark.parametrize(("score", "outcome"), [(0.51, "kept"), (0.5, "nobody in the picture")])
def test_weak_boxes_do_not_count_as_people(score: float, outcome: str, film: Path, tmp_path: Path):
    settings = msgspec.structs.replace(SETTINGS, filters=Filters(need_person=True))
    job = job_of(film, [(1.0, 4.0, "Good.")], tmp_path)
    assert outcomes(prepare(job, settings, finder=Finder(score))) == [outcome]
    kept = prepare(job, SETTINGS, finder=Finder(score))
    assert outcomes(kept) == ["kept"]
    assert kept.clips[0].persons == [int(score > 0.5)] * 24
    assert kept.tar is not None
    record, _ = read_clip(job.tar, kept.tar.samples[0])
    # 64 x 48 became 21 x 16.
    assert record.boxes == [[(2.62, 2.0, 5.25, 8.0, score)]] * 24


def test_sentences_at_the_same_time_share_their_frames(film: Path, tmp_path: Path):
    finder = Finder()
    cues = [(1.0, 5.0, "I am talking for a rather long while to you all."), (2.0, 4.5, "- Me too.")]
    job = job_of(film, cues, tmp_path)
    result = prepare(job, SETTINGS, finder=finder)
    assert outcomes(result) == ["kept", "kept"]
    assert result.captions.overlapping == 1
    assert result.tar is not None
    clips = [read_clip(job.tar, sample) for sample in result.tar.samples]
    (late, late_frames), (early, early_frames) = sorted(clips, key=lambda clip: -clip[0].start)
    for record, frames in clips:
        assert len(frames) == sum(record.start <= k / 8 < record.end for k in range(100))
    offset = round((late.start - early.start) * 8)
    shared = len(early_frames) - offset
    assert shared > 8
    assert late_frames[:shared] == early_frames[offset:]
    # Every time of the grid is processed once: those of 1 s to 4.5 s.
    assert finder.images == [2 * int(10 * k / 8 + 1e-6) for k in range(8, 36)]


def test_a_video_without_a_clip_is_not_decoded(tmp_path: Path):
    film = tmp_path / "film.mkv"
    film.write_text("no film")
    assert outcomes(prepare(job_of(film, [(0, 1, "Good.")], tmp_path), SETTINGS)) == ["too short"]
    with pytest.raises(EmotionError, match="not a video that FFmpeg can read"):
        prepare(job_of(film, [(0, 3, "Good.")], tmp_path), SETTINGS)


# --- results in the work folder


def test_a_result_is_taken_for_whole_only_when_it_is(film: Path, tmp_path: Path):
    job = job_of(film, [(1.0, 4.0, "Good.")], tmp_path)
    assert read_result(job) is None
    result = prepare(job, SETTINGS)
    write_result(job, result)
    assert read_result(job) == result
    whole = job.tar.read_bytes()
    job.tar.write_bytes(whole[:-512])
    assert read_result(job) is None
    job.tar.write_bytes(whole)
    content = job.result.read_bytes()
    job.result.write_bytes(content[:-1])
    assert read_result(job) is None
    job.result.write_bytes(content)
    job.files[1].write_text("changed")
    assert read_result(job) is None
    job.files[1].unlink()
    with pytest.raises(EmotionError, match=r"film\.srt: No such file or directory, although it existed"):
        read_result(job)
