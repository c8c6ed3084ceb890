"""The options about privacy in whole runs: what leaves is decoded and searched for faces and ids."""

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from emotion_runtime import EmotionRuntime, Privacy
from emotion_runtime.cli import main
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.sinks import mqtt, paint
from emotion_runtime.sources import open_source
from made_videos import make_base


@pytest.fixture(scope="module")
def find() -> CenterFace:
    return CenterFace(threads=1, score=0.3)


def images_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        assert not container.streams.audio
        return [each.to_ndarray(format="bgr24") for each in container.decode(video=0)]


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("blur", ["none", "faces", "persons"])
@pytest.mark.parametrize("detect_every", ["0", "0.2"])
def test_recording_shows_no_face(
    tmp_path: Path, tiny_bundle: Path, find: CenterFace, blur: str, detect_every: str
) -> None:
    out = tmp_path / "out.mp4"
    model = ["--bundle", str(tiny_bundle), "--backend", "cpu", "--detect-every", detect_every]
    arguments = ["--source", "demo", "--max-frames", "12", "--record", str(out), "--blur", blur]
    assert main([*model, *arguments]) == 0
    images = images_of(out)
    assert len(images) == 12
    faces = [len(find(image).scores) for image in images[::3]]
    assert faces == ([2] * 4 if blur == "none" else [0] * 4)


def test_photo_shows_no_face_and_results_are_those_without_blur(
    tmp_path: Path, tiny_bundle: Path, find: CenterFace
) -> None:
    photo = tmp_path / "people.png"
    with open_source("demo") as demo:
        cv2.imwrite(str(photo), next(iter(demo)).image)
    lines = []
    for blur in ("none", "faces"):
        out = tmp_path / blur
        model = ["--bundle", str(tiny_bundle), "--backend", "cpu", "--blur", blur]
        assert main([*model, "--source", str(photo), "--record", f"{out}/", "--jsonl", f"{out}.jsonl"]) == 0
        lines.append(lines_of(Path(f"{out}.jsonl")))
        assert len(find(cv2.imread(str(out / "people.png"))).scores) == (2 if blur == "none" else 0)
    assert lines[0] == lines[1]


@pytest.mark.parametrize("blur", ["none", "persons"])
def test_recording_of_hidden_people_has_no_sound(tmp_path: Path, tiny_bundle: Path, blur: str) -> None:
    source = make_base(tmp_path / "base.mp4")
    model = ["--bundle", str(tiny_bundle), "--backend", "cpu", "--blur", blur, "--max-frames", "3"]
    for record in (tmp_path / "out.mp4", tmp_path / "copies"):
        assert main([*model, "--source", str(source), "--record", str(record)]) == 0
    for path in (tmp_path / "out.mp4", tmp_path / "copies" / "base.mp4"):
        with av.open(str(path)) as container:
            assert bool(container.streams.audio) == (blur == "none")


def test_frames_of_a_stream_in_python_are_hidden(tiny_bundle: Path, find: CenterFace) -> None:
    runtime = EmotionRuntime(tiny_bundle, backend="cpu", privacy=Privacy(blur="faces"))
    with runtime, runtime.stream("demo", with_frames=True) as stream:
        for frame, event in stream:
            assert len(event.persons) == 2
            assert len(find(frame.image).scores) == 0
            if frame.index == 3:
                break


def test_nobody_is_found_in_a_zone_and_it_never_leaves(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    model = ["--bundle", str(tiny_bundle), "--backend", "cpu", "--zone", "demo=0,0,0.5,1"]
    output = ["--record", f"{out}.mp4", "--jsonl", f"{out}.jsonl"]
    assert main([*model, "--source", "demo", "--max-frames", "4", *output]) == 0
    run, *frames = lines_of(Path(f"{out}.jsonl"))
    assert run["options"]["zone"] == ["demo=0,0,0.5,1"]
    for line in frames:
        assert [person["box"][0] > 320 for person in line["persons"]] == [True]
    for image in images_of(Path(f"{out}.mp4")):
        assert image[20:340, 10:200].std() < 4
    capsys.readouterr()
    assert main([*model[:-1], "dmeo=0,0,0.5,1", "--source", "demo"]) == 2
    assert "no source of this name" in capsys.readouterr().err


def test_zones_hold_for_photos_and_frames_in_python(tiny_bundle: Path) -> None:
    with open_source("demo") as demo:
        image = next(iter(demo)).image
    with EmotionRuntime(tiny_bundle, backend="cpu", privacy=Privacy(zones=["0,0,0.5,1"])) as runtime:
        assert len(runtime.look(image)) == 1
        assert len(runtime.step(image, 0.0).persons) == 1


def test_no_ids_are_published(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    model = ["--bundle", str(tiny_bundle), "--backend", "cpu", "--no-ids"]
    assert main([*model, "--source", "demo", "--max-frames", "20", "--jsonl", str(out)]) == 0
    run, *frames = lines_of(out)
    assert run["options"]["no_ids"] is True
    assert all("id" not in person for line in frames for person in line["persons"])
    assert sum(len(line["persons"]) for line in frames) == 40
    printed = capsys.readouterr().err
    assert "one person: " in printed
    assert not re.search(r"person \d", printed)


@pytest.mark.slow
def test_no_output_of_a_run_has_ids(
    tmp_path: Path,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    messages: list[tuple[str, bytes]] = []
    drawn: list[str] = []
    broker = SimpleNamespace(
        failure=None,
        keep=lambda *message: messages.append(message),
        send=lambda *message: messages.append(message),
        take_received=list,
        close=lambda: None,
    )
    monkeypatch.setattr(mqtt, "open_client", lambda *_: None)
    monkeypatch.setattr(mqtt, "Broker", lambda *_: broker)
    write = paint.write
    monkeypatch.setattr(
        paint, "write", lambda image, caption, *rest: (drawn.append(caption), write(image, caption, *rest))[1]
    )
    table, page, lines, record = (tmp_path / name for name in ("a.csv", "a.html", "a.jsonl", "a.mp4"))
    outputs = ["--csv", str(table), "--report", str(page), "--jsonl", str(lines), "--record", str(record)]
    model = ["--bundle", str(tiny_bundle), "--backend", "cpu", "--no-ids"]
    source = ["--source", "hall=demo", "--realtime", "--max-frames", "40"]
    assert main([*model, *source, *outputs, "--mqtt", "mqtt://localhost/home"]) == 0

    assert len(images_of(record)) > 0
    assert any("joy" in caption for caption in drawn)
    assert not any("#" in caption for caption in drawn)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert len(rows) > 20
    assert {row["id"] for row in rows} == {""}
    assert not (tmp_path / "a-summary.csv").exists()
    topics = {topic for topic, _ in messages}
    assert {"home/hall/state", "home/hall/events"} <= topics
    told = [payload.decode() for topic, payload in messages if topic.startswith("home/")]
    assert '"persons":[{' in "".join(told)
    printed = capsys.readouterr().err
    assert "one person: " in printed
    for text in (lines.read_text(), page.read_text(), printed, *told):
        assert '"id"' not in text
        assert not re.search(r"person[ #]*\d", text, re.IGNORECASE)


def test_aggregate_publishes_counts_alone(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--bundle", str(tiny_bundle), "--backend", "cpu", "--source", "demo", "--max-frames", "30"]
    model += ["--detect-every", "0.2"]
    for least, expected in ((2, 1), (3, 0)):
        out = tmp_path / f"{least}.jsonl"
        assert main([*model, "--aggregate", str(least), "--jsonl", str(out)]) == 0
        run, *lines = lines_of(out)
        assert run["options"]["aggregate"] == least
        assert [line["type"] for line in lines] == ["aggregate"] * expected
        assert all(line["people"] == sum(line["counts"].values()) >= least for line in lines)
        assert "person" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--blur", "eyes"], "none, faces, persons"),
        (["--zone", "0,0,2,2"], "from 0 to 1"),
        (["--aggregate", "1"], "2 or more"),
        (["--aggregate", "3", "--embeddings", "x.npz"], "tells people apart"),
        (["--no-ids", "--embeddings", "x.npz"], "tells people apart"),
        (["--aggregate", "3", "--on-change", "--jsonl", "-"], "writes none"),
        (["--aggregate", "3", "--record", "x.mp4"], "--record shows people, which --aggregate prevents"),
        (["--aggregate", "3", "--show"], "give --blur faces or --blur persons, too, or omit --show"),
    ],
)
def test_contradictions_are_refused(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--source", "demo", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
