"""The doctor opens the sources of a configuration."""

import itertools
import json
import time
from pathlib import Path

import pytest
from stream_servers import (
    free_port,
    http_server,
    jpeg,
    need_parts,
    raw_server,
    rtsp_server,
    send,
    send_mjpeg,
    silent,
)

from emotion_runtime.cli import main
from emotion_runtime.doctor import opening
from emotion_runtime.doctor.findings import Finding
from emotion_runtime.errors import EmotionError


def findings(*sources: str) -> dict[str, Finding]:
    return {finding.details["name"]: finding for finding in opening.sources(sources)}


def test_what_a_source_delivers(shared_data: Path) -> None:
    video = shared_data / "videos" / "vtest.avi"
    images = itertools.cycle([jpeg(50), jpeg(90)])
    with http_server({"/cam": lambda request: send_mjpeg(request, images, rate=10)}) as place:
        found = findings("demo", f"walk={video}", f"lobby=http://me:s3cret@{place}/cam", "-")
    assert {finding.state for finding in found.values()} == {"OK"}
    assert found["demo"].text.startswith("demo: 640x360, 25.0 fps, first image after ")
    assert found["walk"].text.startswith("walk: 768x576, 10.0 fps, msmpeg4, first image after ")
    lobby = found["lobby"]
    assert lobby.text.startswith("lobby: 64x48, ")
    assert ", mjpeg, first image after " in lobby.text
    assert lobby.details["fps"] == pytest.approx(10, rel=0.2)
    assert 0 <= lobby.details["latency_ms"] < 500
    assert found["-"].text == "-: standard input, which is not read here"


def test_causes_are_named_without_passwords(tmp_path: Path) -> None:
    (tmp_path / "noise.mp4").write_bytes(b"noise" * 1000)
    port = free_port()
    pages = {
        "/page": lambda request: send(request, "text/html", b"<html>"),
        "/secret": lambda request: send(request, "text/plain", b"", 401),
    }
    with http_server(pages) as place:
        found = findings(
            f"closed=rtsp://me:s3cret@127.0.0.1:{port}/cam",
            f"page=http://me:s3cret@{place}/page",
            f"denied=http://me:s3cret@{place}/secret",
            f"missing=http://me:s3cret@{place}/nothing",
            f"gone={tmp_path}/gone.mp4",
            f"noise={tmp_path}/noise.mp4",
            "camera=v4l2:///dev/video77",
        )
    assert {finding.state for finding in found.values()} == {"FAIL"}
    texts = " ".join(finding.text for finding in found.values())
    assert "s3cret" not in texts
    assert "://" not in texts
    assert "sends a page" in found["page"].text
    assert "user" in found["denied"].text or "password" in found["denied"].text
    assert len({finding.text for finding in found.values()}) == 7


def test_source_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_OPENING", 0.5)
    monkeypatch.setattr(opening, "_WATCHED", 0.2)
    started = time.monotonic()
    with raw_server(silent) as port, raw_server(silent) as other:
        found = findings(f"a=http://127.0.0.1:{port}/", f"b=rtsp://127.0.0.1:{other}/cam", "demo")
        assert time.monotonic() - started < 5
    assert found["a"].text == "a: no image within 0.5 s; check that it is switched on and sends video"
    assert found["b"].state == "FAIL"
    assert found["demo"].state == "OK"


def test_bug_in_one_source_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_live", lambda *_: 1 / 0)
    found = findings("a=rtsp://me:s3cret@127.0.0.1/cam", "demo")
    assert found["a"].text == "a: it failed: ZeroDivisionError"
    assert found["demo"].state == "OK"


@pytest.mark.slow
def test_mistakes_are_findings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EmotionError, match="two sources have the name a"):
        findings("a=x.mp4", "a=y.mp4")
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    assert main(["--doctor", "--json", "--source", "rtsp://me:${NOT_SET_HERE}@cam/1"]) == 2
    report = json.loads(capsys.readouterr().out)
    (finding,) = [one for one in report["findings"] if one["area"] == "source"]
    assert finding["state"] == "FAIL"
    assert "NOT_SET_HERE" in finding["text"]


@pytest.mark.slow
def test_configuration_is_checked_and_reported_as_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text('[sources]\nstage = "demo"\n')
    assert main(["--doctor", "--json", "--config", str(path)]) == 0
    report = json.loads(capsys.readouterr().out)
    (finding,) = [one for one in report["findings"] if one["area"] == "source"]
    assert finding["details"]["name"] == "stage"
    assert (finding["details"]["width"], finding["details"]["fps"]) == (640, 25.0)
    assert all(("details" in one) == (one["area"] == "source") for one in report["findings"])


@pytest.mark.slow
def test_camera_of_rtsp() -> None:
    need_parts()
    with rtsp_server("--user", "me:s3cret") as server:
        # One after the other: one stream is no two sources, whoever looks at it.
        found = findings(f"right={server.uri('me:s3cret')}") | findings(f"wrong={server.uri('me:false')}")
    right = found["right"]
    assert right.text.startswith("right: 320x240, ")
    assert ", h264, first image after " in right.text
    assert right.details["fps"] == pytest.approx(15, rel=0.3)
    assert found["wrong"].state == "FAIL"
    assert "false" not in found["wrong"].text
