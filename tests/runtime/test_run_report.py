"""Times of the stages, and what is counted for the lines at the end of a run."""

from pathlib import Path

import pytest
from pipeline_bench import LEFT, Bench, halves

from emotion_runtime import metrics
from emotion_runtime.metrics import RunReport, StageTimer
from emotion_runtime.types import EmotionEvent, Frame, Person


def test_latency_is_measured_for_live_frames_only(tiny_bundle: Path):
    bench = Bench(tiny_bundle, clock=lambda: 107.25)
    image = halves()
    assert bench.pipeline.step(Frame(image, 0, 0.0, "file")).latency_ms == 0.0
    live = bench.pipeline.step(Frame(image, 0, 0.0, "live", captured=107.0, dropped=3))
    assert live.latency_ms == 250.0
    assert live.dropped == 3


def test_stages_are_timed(bench: Bench):
    bench.show_many([LEFT], halves(), 3)
    spent = {name for name, seconds in bench.pipeline.timer.seconds.items() if seconds > 0}
    assert spent == {"detect", "track", "crop", "encode", "temporal"}


def test_timer_adds_up_by_stage():
    times = iter([10.0, 10.5, 20.0, 20.25, 30.0, 31.0])
    timer = StageTimer(clock=lambda: next(times))
    for name in ("detect", "encode", "detect"):
        with timer.stage(name):
            pass
    milliseconds = timer.milliseconds_per(3)
    assert milliseconds["detect"] == pytest.approx(500)
    assert milliseconds["encode"] == pytest.approx(250 / 3)
    assert milliseconds["sinks"] == 0


def test_report_counts_frames_and_seconds():
    times = iter([102.0, 106.0])  # the first event, the end
    report = RunReport(100.0, clock=lambda: next(times))
    for index in range(5):
        report.add(EmotionEvent(source="a", frame=index, t=float(index), persons=[]))
    timer = StageTimer()
    timer.seconds |= {"detect": 0.05, "track": 0.0001}
    line = report.line(timer, "a backend")
    # Four frames in the four seconds after the first event.
    assert line == "5 frames in 6.0 s (first after 2.0 s, then 1.0 fps); ms per frame: detect 10.0; a backend"
    assert not report.found


def test_report_of_photos_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "MAX_PHOTOS", 2)
    report = RunReport(0.0)
    persons = [Person(id=1, box=(0, 0, 1, 1), score=1.0, state="photo")]
    for index in range(5):
        report.add(EmotionEvent(source=f"{index}.jpg", frame=0, t=0.0, persons=persons), still=True)
    assert (list(report.photos), report.more_photos, report.found) == (["0.jpg", "1.jpg"], 3, True)
