"""The file of embeddings: rows that the heads read, complete or absent, with bounded memory."""

import json
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_events import EMOTIONS, event, frame, person

from emotion_runtime.bundle import load_bundle
from emotion_runtime.cli import main
from emotion_runtime.errors import EmotionError
from emotion_runtime.feature_log import FeatureLog
from emotion_runtime.heads import load_head
from emotion_runtime.sinks.embeddings import EmbeddingsSink
from emotion_runtime.types import RunLine

RUN = RunLine(version="1", bundle="nano", bundle_sha256="ab" * 32, head="probe")


def read(path: Path) -> dict[str, Any]:
    """Read both formats into arrays by the names of the .npz."""
    if path.suffix == ".npz":
        with np.load(path) as archive:  # pickle is not allowed
            return dict(archive)
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(path)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    vectors = table["embedding"].combine_chunks()
    return {
        **{name: np.array(columns[name]) for name in ("source", "frame", "t", "id")},
        "time": np.array([np.nan if time is None else time for time in columns["time"]]),
        "label": np.array([text or "" for text in columns["label"]]),
        "why": np.array([text or "" for text in columns["why"]]),
        "box": np.array([columns[name] for name in ("x1", "y1", "x2", "y2")]).T,
        "probabilities": np.array([columns[f"p_{name}"] for name in EMOTIONS]).T,
        "embeddings": vectors.flatten().to_numpy().reshape(len(vectors), vectors.type.list_size),
        "bundle": table.schema.metadata[b"bundle"].decode(),
    }


def write_three(path: Path, **options: Any) -> EmbeddingsSink:
    """Write a frame with two persons, one of whom was not encoded, and a frame with one."""
    log = FeatureLog(4, EMOTIONS)
    sink = EmbeddingsSink(str(path), log, run=RUN, **options)
    log.add("video.mp4", 0, 1, np.array([3, 0, 4, 0], np.float32))
    sink.write(frame(0, source="video.mp4"), event(person(1, (0, 1, 20, 31)), person(2, (1, 1, 2, 2))))
    log.add("video.mp4", 1, 2, np.array([0, 0, 0, 2], np.float32))
    unsure = person(2, (5, 6, 7, 8), top=None)
    sink.write(frame(1, source="video.mp4"), event(unsure, frame=1, t=0.5))
    return sink


@pytest.mark.parametrize("name", ["out.npz", "out.parquet"])
def test_a_row_per_encoded_person_with_who_when_and_what(tmp_path: Path, name: str):
    path = tmp_path / "new" / name
    sink = write_three(path)
    assert not path.exists()
    sink.close()
    sink.close()
    assert sink.files == [path]
    assert [each.name for each in path.parent.iterdir()] == [name]
    rows = read(path)
    assert rows["embeddings"].dtype == np.float32
    np.testing.assert_allclose(rows["embeddings"], [[0.6, 0, 0.8, 0], [0, 0, 0, 1]])
    assert rows["source"].tolist() == ["video.mp4", "video.mp4"]
    assert (rows["frame"].tolist(), rows["t"].tolist(), rows["id"].tolist()) == ([0, 1], [0.0, 0.5], [1, 2])
    assert (rows["label"].tolist(), rows["why"].tolist()) == (["happiness", ""], ["", "uncertain"])
    assert np.isnan(rows["time"]).all()
    np.testing.assert_allclose(rows["box"], [[0, 1, 20, 31], [5, 6, 7, 8]])
    np.testing.assert_allclose(rows["probabilities"].sum(axis=1), 1, atol=1e-6)
    assert rows["bundle"] == "nano"


@pytest.mark.parametrize("name", ["out.npz", "out.parquet"])
def test_a_run_without_people_gives_arrays_without_rows(tmp_path: Path, name: str):
    EmbeddingsSink(str(tmp_path / name), FeatureLog(4, EMOTIONS), run=RUN).close()
    assert read(tmp_path / name)["embeddings"].shape == (0, 4)


@pytest.mark.parametrize("name", ["out.npz", "out.parquet"])
def test_a_failure_leaves_the_earlier_file_and_nothing_else(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / name
    path.write_text("earlier")
    sink = write_three(path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EmotionError, match=r"out\.\w+ cannot be written \(No space left"):
        sink.close()
    assert sink.files == []
    assert path.read_text() == "earlier"
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_full_disk_is_one_line_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("wb"))  # noqa: SIM115 - the sink closes it
    sink = write_three(tmp_path / "out.npz")
    with pytest.raises(EmotionError, match=r"out\.npz cannot be written \(No space left.*free disk space"):
        sink.close()
    assert sink.files == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.npz", "out.parquet"])
def test_second_run_is_refused_until_the_first_has_ended(tmp_path: Path, name: str):
    first = write_three(tmp_path / name)
    with pytest.raises(EmotionError, match=rf"{name} is being written by another run"):
        write_three(tmp_path / name)
    first.close()
    write_three(tmp_path / name).close()
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path):
    log = FeatureLog(256, EMOTIONS)
    sink = EmbeddingsSink(str(tmp_path / "out.npz"), log)
    vector = np.ones(256, np.float32)
    tracemalloc.start()
    try:
        for index in range(6000):  # 6 MB of embeddings
            log.add("video.mp4", index, 1, vector)
            sink.write(frame(index, source="video.mp4"), event(person(1, (0, 0, 9, 9)), frame=index))
        sink.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(read(tmp_path / "out.npz")["t"]) == 6000
    assert peak < 4e6


def test_an_existing_file_is_replaced_or_refused_but_never_continued(tmp_path: Path):
    path = tmp_path / "out.npz"
    write_three(path).close()
    write_three(path).close()
    assert len(read(path)["t"]) == 2
    with pytest.raises(EmotionError, match=r"out\.npz exists.*--overwrite"):
        write_three(path, keep=True)


def test_without_pyarrow_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        EmotionError, match=r"needs pyarrow, which is not installed: pip install pyarrow"
    ) as caught:
        EmbeddingsSink(str(tmp_path / "out.parquet"), FeatureLog(4, EMOTIONS))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--embeddings", "out.csv"], "expected a name that ends with .npz or .parquet"),
        (["--embeddings", "out.npz", "--jsonl", "results/"], "give --overwrite, or --jsonl FILE"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.chdir(tmp_path)
    assert main(["--source", "demo", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_file_that_is_also_a_source_is_refused(tmp_path: Path, capsys: Any):
    source = tmp_path / "video.npz"
    source.write_bytes(b"")
    assert main(["--source", str(source), "--embeddings", str(source)]) == 2
    assert "would overwrite" in capsys.readouterr().err


@pytest.mark.slow
def test_the_heads_give_the_events_of_the_run_from_its_embeddings(tmp_path: Path):
    out, lines = tmp_path / "demo.npz", tmp_path / "demo.jsonl"
    options = ["--max-frames", "30", "--smoothing", "0", "--embeddings", str(out), "--jsonl", str(lines)]
    subprocess.run(
        [sys.executable, "-m", "emotion_runtime", "--source", "demo", *options],
        check=True,
        capture_output=True,
    )
    rows = read(out)
    assert len(rows["t"]) > 5
    assert rows["labels"].tolist() == list(EMOTIONS)
    np.testing.assert_allclose(np.linalg.norm(rows["embeddings"], axis=1), 1, atol=1e-5)
    events = {}
    for line in map(json.loads, lines.read_text().splitlines()):
        if line["type"] == "frame":
            events |= {(line["frame"], each["id"]): each for each in line["persons"]}
    head = load_head(load_bundle("nano"))
    expected = head(rows["embeddings"])
    for frame_index, who, probabilities in zip(rows["frame"], rows["id"], expected, strict=True):
        raw = events[int(frame_index), int(who)]["raw"]
        assert list(raw.values()) == pytest.approx(probabilities.tolist(), abs=2e-3)
