"""How often people were detected and encoded: measured, and printed for live sources."""

import pytest

from emotion_runtime.live_report import LiveReport
from emotion_runtime.rates import RateMeter, Rates
from emotion_runtime.types import EmotionEvent


def test_rates_are_means_of_the_latest_times():
    meter = RateMeter()
    assert meter.rates() == Rates()
    for index in range(100):
        meter.detected(index * (0.5 if index < 50 else 0.25))  # the time starts over in between
        meter.encoded(0.2 if index % 2 else 0.4)
    rates = meter.rates()
    assert rates.detect_every == pytest.approx(0.25)
    assert rates.encode_every == pytest.approx(0.3)
    assert rates.longest_wait == pytest.approx(0.4)


def test_live_sources_say_how_often_people_were_detected_and_encoded():
    now = [0.0]
    known = {"door": Rates(0.208, 0.456, 0.6)}
    report = LiveReport(lambda: known, clock=lambda: now[0])
    for index in range(61):
        now[0] = float(index)
        report.add(EmotionEvent(source="door", frame=index, t=float(index), persons=[]))
        if index == 58:
            known["door"] = Rates(0.3)
        if index == 59:
            known.clear()  # the source is over
    line = report.line()
    assert line is not None
    assert line.endswith("0 in view, detected every 0.30 s")
    assert report.closing_lines()[0].endswith("0 frames dropped, detected every 0.30 s")
    known["door"] = Rates(0.208, 0.456, 0.6)
    now[0] = 70.0
    report.add(EmotionEvent(source="door", frame=61, t=70.0, persons=[]))
    assert report.closing_lines()[0].endswith("detected every 0.21 s, each person encoded every 0.46 s")
