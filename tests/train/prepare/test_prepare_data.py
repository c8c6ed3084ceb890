"""Whole runs: what comes out, and what they refuse."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from command import Command
from made_media import ONE, write_srt
from PIL import Image

from emotion_train.clips.reader import ShardSet
from emotion_train.language.goemotions import load_sentences
from emotion_train.language.labels import EKMAN
from emotion_train.language.sentiment import LinearSentiment


def shades(frames: list[bytes]) -> list[float]:
    """Mean grey of each frame: twice the index of its image."""
    return [float(np.asarray(Image.open(io.BytesIO(frame))).mean()) for frame in frames]


# --- what comes out


def test_clips_are_the_sentences_that_pass(prepared: Path, sentences: Path):
    shards = ShardSet.open(str(prepared))
    records = {key: shards.record(number) for number, key in enumerate(shards.keys)}
    assert {(record.video, record.caption) for record in records.values()} == {
        ("one", "I am so happy!"),
        ("one", "I am angry and mad."),
        ("show/two x", "wow this is amazing and unbelievable"),
        ("show/two x", "i hate you i am furious."),
    }
    assert {"one-00000", "one-00003"} < set(records)
    linear = LinearSentiment(load_sentences(sentences, "train"))
    for record in records.values():
        logits = linear([record.caption])[0]
        np.testing.assert_allclose(record.sentiment, logits, atol=1e-4)
        odds = np.exp(logits - logits.max())
        assert record.neutral == pytest.approx(float(odds[EKMAN.index("neutral")] / odds.sum()), abs=1e-4)
        assert record.neutral <= 0.3
    by_caption = {record.caption: EKMAN[int(np.argmax(record.sentiment))] for record in records.values()}
    assert by_caption["I am so happy!"] == "happiness"
    assert by_caption["I am angry and mad."] == "anger"


def test_frames_are_those_shown_at_the_times_of_the_grid(prepared: Path):
    shards = ShardSet.open(str(prepared))
    starts = {0.5: 0, 8.0: 0}
    for number in range(len(shards)):
        record, frames = shards.read(number)
        shade = 0 if record.video == "one" else 1
        assert (record.width, record.height, record.fps) == (64, 48, 8.0)
        # Times k / 8 from start to end; at 10 fps, image floor(10 t) is shown at t.
        moments = [k / 8 for k in range(200) if record.start <= k / 8 < record.end]
        expected = [2 * int(10 * t + 1e-6) + shade for t in moments]
        assert shades(frames) == pytest.approx(expected, abs=1.0)
        starts.pop(record.start, None)
        with Image.open(io.BytesIO(frames[0])) as picture:
            assert picture.size == (64, 48)
    assert not starts  # those of `one` were among them


def test_every_sentence_is_counted_once(prepared: Path):
    statistics = json.loads((prepared / "statistics.json").read_text())
    assert {outcome: count for outcome, count in statistics["sentences"].items() if count} == {
        "kept": 4,
        "too short": 1,
        "too neutral": 1,
        "outside the video": 1,
    }
    assert (statistics["videos"], statistics["clips"], statistics["shards"]) == (4, 4, 2)
    assert sorted(statistics["broken"]) == ["truncated", "unreadable"]
    assert "the file is truncated (" in statistics["broken"]["truncated"]
    assert "not a valid VTT file" in statistics["broken"]["unreadable"]
    assert statistics["videos_without_captions"] == ["silent"]
    assert statistics["captions_without_video"] == ["unseen.srt"]
    assert statistics["frames"] == ShardSet.open(str(prepared)).frames == sum(statistics["persons"])
    assert statistics["bytes"] == sum(path.stat().st_size for path in prepared.glob("*.tar"))
    assert sum(statistics["seconds"]["counts"]) == 7
    assert sum(statistics["kept_seconds"]["counts"]) == 4
    assert sum(statistics["neutral"]["counts"]) == 6  # all but the one that is too short


def test_the_page_stands_alone_and_says_what_was_left_out(prepared: Path):
    page = (prepared / "statistics.html").read_text()
    assert page.count("<svg") == 5
    assert page.count("data:image/jpeg;base64,") == 4
    assert "I am so happy! (one, 0.5 to 3.0 s)" in page
    for outside in ('src="http', 'href="http', "<script", "@import"):
        assert outside not in page
    for said in (
        "silent",
        "unseen.srt",
        "the file is truncated (",
        "0.3",
        "no person was found in any frame",
    ):
        assert said in page


def test_webdataset_reads_what_was_prepared(prepared: Path):
    paths = [str(path) for path in sorted(prepared.glob("*.tar"))]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False))
    shards = ShardSet.open(str(prepared))
    assert [sample["__key__"] for sample in samples] == shards.keys
    assert samples[2]["000.jpg"] == shards.read(2)[1][0]


def test_clips_of_a_video_are_spread_by_a_hash_of_their_keys(prepared: Path):
    shards = ShardSet.open(str(prepared))
    assert shards.keys == sorted(shards.keys, key=lambda key: hashlib.sha256(f"0 {key}".encode()).hexdigest())
    assert shards.keys != sorted(shards.keys)
    index = json.loads((prepared / "index.json").read_text())
    assert [len(shard["samples"]) for shard in index["shards"]] == [3, 1]
    for shard in index["shards"]:
        data = (prepared / shard["name"]).read_bytes()
        assert (shard["bytes"], shard["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert index["spec"]["filters"]["max_neutral"] == 0.3
    assert index["spec"]["detector"] == "face"
    assert index["spec"]["sentiment"].startswith("linear sha256:")


# --- refusals


def test_no_folder_and_empty_folders(error_line: Callable[[list[str]], str], media: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    videos, captions = str(media / "videos"), str(media / "captions")
    rest = ["--sentiment", "linear", "--sentences", "x", "--out", str(tmp_path / "out")]
    empty, nowhere = str(tmp_path / "empty"), str(tmp_path / "nowhere")
    assert f"--videos {empty}: no videos in it" in error_line(
        ["--videos", empty, "--captions", captions, *rest]
    )
    assert f"--captions {empty}: no captions in it" in error_line(
        ["--videos", videos, "--captions", empty, *rest]
    )
    assert f"--videos {nowhere}: no such folder" in error_line(
        ["--videos", nowhere, "--captions", captions, *rest]
    )
    assert not (tmp_path / "out").exists()


def test_captions_of_no_video_at_all(error_line: Callable[[list[str]], str], media: Path, tmp_path: Path):
    write_srt(tmp_path / "captions" / "else.srt", ONE)
    argv = [
        "--videos",
        str(media / "videos"),
        "--captions",
        str(tmp_path / "captions"),
        "--sentiment",
        "linear",
    ]
    line = error_line([*argv, "--sentences", "x", "--out", str(tmp_path / "out")])
    assert "none of 5 videos" in line
    assert "expected NAME.vtt or NAME.en.vtt" in line


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--workers", "0"], "--workers 0: expected 1 or more"),
        (["--clips-per-shard", "0"], "--clips-per-shard 0: expected 1 or more"),
        (["--fps", "0"], "fps 0.0: expected 0.1 to 120"),
        (["--max-neutral", "1.5"], "max_neutral 1.5: expected 0 to 1"),
        (["--min-seconds", "10"], "--min-seconds 10.0: expected less than --max-seconds 10.0"),
        (["--address", "auto"], "expected only with Ray; add --engine ray"),
        (["--from-authors", "."], "--from-authors excludes --videos"),
        (["--exclude", "no-such-file"], "--exclude no-such-file: "),
        (["--detector", "yolo.pt"], "detector 'yolo.pt'"),
        (["--detector-score", "2"], "detector score 2.0: expected a number between 0 and 1"),
    ],
)
def test_invalid_options_are_refused(
    extra: list[str],
    message: str,
    options: list[str],
    error_line: Callable[[list[str]], str],
    tmp_path: Path,
):
    assert message in error_line([*options, *extra, "--out", str(tmp_path / "out")])


def test_a_model_of_sentiment_that_is_not_there(
    error_line: Callable[[list[str]], str], options: list[str], tmp_path: Path
):
    (tmp_path / "model").mkdir()
    line = error_line([*options, "--sentiment", str(tmp_path / "model"), "--out", str(tmp_path / "out")])
    assert f"sentiment model '{tmp_path / 'model'}' cannot be loaded: use a folder" in line


def test_linear_without_sentences(error_line: Callable[[list[str]], str], media: Path, tmp_path: Path):
    argv = ["--videos", str(media / "videos"), "--captions", str(media / "captions")]
    line = error_line([*argv, "--sentiment", "linear", "--out", str(tmp_path / "out")])
    assert "give --sentences FOLDER with train.tsv and labels.txt" in line


def test_no_data_at_all(error_line: Callable[[list[str]], str], tmp_path: Path):
    assert "no data: give --videos DIR" in error_line(["--out", str(tmp_path)])


def test_an_output_that_is_a_file(error_line: Callable[[list[str]], str], options: list[str], tmp_path: Path):
    (tmp_path / "out").touch()
    assert "choose a folder that can be written" in error_line([*options, "--out", str(tmp_path / "out")])


def test_a_run_without_clips_warns(
    prepare_data: Command, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert prepare_data.main([*options, "--min-characters", "99", "--out", str(tmp_path / "out")]) == 0
    assert "WARNING: no sentence became a clip" in capsys.readouterr().err
    assert len(ShardSet.open(str(tmp_path / "out"))) == 0


def test_clips_without_people_are_left_out_on_request(
    prepare_data: Command,
    options: list[str],
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    statistics = json.loads((prepared / "statistics.json").read_text())
    assert statistics["clips_without_persons"] == statistics["clips"] == 4  # kept, as by the authors
    assert prepare_data.main([*options, "--need-person", "--out", str(tmp_path / "out")]) == 0
    assert "4 nobody in the picture" in capsys.readouterr().err


def test_excluded_videos(prepare_data: Command, options: list[str], tmp_path: Path):
    (tmp_path / "names.txt").write_text("one\n\nshow/two x\nnot there\n")
    argv = [*options, "--exclude", str(tmp_path / "names.txt"), "--out", str(tmp_path / "out")]
    assert prepare_data.main(argv) == 0
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert statistics["excluded"] == ["one", "show/two x"]
    assert statistics["videos"] == 2
