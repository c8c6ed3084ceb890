"""What numbers say of people: nothing with `--aggregate`, and nobody is in view without new images."""

import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import get_args

import pytest
from sample_events import event, person
from served import MANY, serving

from emotion_runtime.metrics import STAGES
from emotion_runtime.types import SourceStatus, StatusLine
from emotion_runtime.web.opening import WebOptions
from emotion_runtime.web.prometheus import Metrics
from emotion_runtime.web.state import WebContent
from emotion_runtime.web.traffic import Traffic

DASHBOARD = Path(__file__).resolve().parents[3] / "deploy" / "grafana.json"
BOX = (0.0, 0.0, 50.0, 60.0)
SOURCE = event().source


@pytest.mark.parametrize(
    ("content", "published"),
    [
        (WebContent(), set(STAGES)),
        (WebContent(least=3, images=False), {"read", "detect", "sinks"}),
    ],
)
def test_with_counts_only_no_stage_says_that_somebody_is_there(content: WebContent, published: set[str]):
    with serving(WebOptions(place="127.0.0.1:0", limits=MANY), content) as found:
        found.stop_giving()
        found.sink._stage_seconds = lambda: dict.fromkeys(STAGES, 0.1)
        found.give()
        text = found.ask("GET", "/metrics")[2].decode()
    assert {stage for stage in STAGES if f'stage="{stage}"' in text} == published


@pytest.mark.parametrize("status", ["connecting", "frozen", "lost", "paused", "ended"])
def test_without_new_images_nobody_is_in_view(status: SourceStatus):
    metrics, traffic = Metrics("1"), Traffic()

    def people() -> tuple[bool, int | None]:
        is_counted = f'emotion_people{{source="{SOURCE}"}} 1.0' in metrics.text().decode()
        return is_counted, traffic.states()[0].people

    for value in ("degraded", status):
        metrics.add(event(person(1, BOX)))
        traffic.add(event(person(1, BOX)))
        line = StatusLine(source=SOURCE, time=datetime.now(timezone.utc), status=value)
        metrics.add_status(line)
        traffic.add_status(line)
        assert people() == ((True, 1) if value == "degraded" else (False, 0))


def test_the_dashboard_asks_for_metrics_and_statuses_that_there_are():
    metrics = Metrics("1")
    metrics.add(event())
    metrics.add_stages({"read": 0.1})
    metrics.add_status(StatusLine(source="yard", status="lost", time="2026-11-26T12:00:00Z"))
    metrics.add_status(StatusLine(source="yard", status="live", time="2026-11-26T12:00:01Z"))
    lines = [line for line in metrics.text().decode().splitlines() if not line.startswith("#")]
    published = {re.split(r"[ {]", line)[0] for line in lines}
    queries = " ".join(
        target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]
    )
    asked = set(re.findall(r"emotion_\w+", queries))
    assert asked <= published
    # Every metric has its place; of a histogram, the buckets or the sum with the count.
    assert {re.sub(r"_(bucket|sum|count|created|total)$", "", name) for name in published} == {
        re.sub(r"_(bucket|sum|count|total)$", "", name) for name in asked
    }
    assert set(re.findall(r'status="(\w+)"', queries)) == set(get_args(SourceStatus))
