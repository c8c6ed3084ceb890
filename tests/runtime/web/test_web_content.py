"""What the server gives of people when little may be published, and what it leaves behind."""

import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from served import MANY, Served, read_stream, serving, watch
from websockets.sync.client import ClientConnection

from emotion_runtime.types import AggregateLine
from emotion_runtime.web.opening import WebOptions
from emotion_runtime.web.state import WebContent

OPTIONS = WebOptions(place="127.0.0.1:0", limits=MANY)


def publish(served: Served, **counts: int) -> None:
    line = AggregateLine(source="door", t=1.0, people=sum(counts.values()), counts=counts)
    assert served.sink.write_aggregate(line)


def next_text(viewer: ClientConnection) -> str:
    message = viewer.recv(timeout=5)
    assert isinstance(message, str)  # no image
    return message


def test_with_counts_only_nobody_is_shown_alone():
    with serving(OPTIONS, WebContent(least=3, images=False)) as found:
        publish(found, happiness=2, sadness=1)
        with watch(found) as viewer:
            overview = json.loads(next_text(viewer))
            assert (overview["least"], overview["images"]) == (3, False)
            assert overview["cameras"][0]["people"] is None
            next_text(viewer)
            publish(found, happiness=3, sadness=0)
        view = found.json("GET", "/summary")[1]
        assert [(one["people"], one["counts"]) for one in view["counts"]] == [
            (3, {"happiness": 2, "sadness": 1}),
            (3, {"happiness": 3, "sadness": 0}),
        ]
        assert view["shares"] == {"happiness": 0.8333, "sadness": 0.1667}
        assert view["people"] == view["changes"] == []
        assert found.ask("GET", "/stream.mjpg")[0] == 403
        assert found.ask("POST", "/analyze", b"any")[0] == 403
        assert b"emotion_people" not in b"".join(
            line for line in found.ask("GET", "/metrics")[2].splitlines(keepends=True) if line[:1] != b"#"
        )


def test_listeners_get_counts_and_no_frames():
    content = WebContent(least=2, images=False)
    with serving(OPTIONS, content) as found, found.open("GET", "/events") as response:
        kinds = []
        while len(kinds) < 3:
            line = response.readline()
            if line.startswith(b"data: {"):
                kinds.append(json.loads(line[6:])["type"])
                publish(found, happiness=2)
    assert kinds == ["run", "aggregate", "aggregate"]


def test_motion_jpeg_has_boxes_and_labels(served: Served):
    data = read_stream(served, "/stream.mjpg?source=door", 30_000)
    begin = data.index(b"\xff\xd8")
    image = np.asarray(Image.open(BytesIO(data[begin : data.index(b"\xff\xd9", begin) + 2])), int)
    colored = np.ptp(image, axis=2) > 60
    assert colored[90:140, 36:44].any()  # an edge of the box of the first person
    assert not colored[:, :30].any()


def test_a_camera_that_was_removed_leaves_nobody_behind():
    with serving(WebOptions(place="127.0.0.1:0", limits=MANY, allow_adding=True)) as found:
        assert found.json("POST", "/cameras", {"uri": "gate=rtsp://10.0.0.1/a"})[0] == 201
        found.stop_giving()
        found.give("gate")
        assert b'emotion_people{source="gate"} 2.0' in found.ask("GET", "/metrics")[2]
        assert found.json("DELETE", "/cameras?name=gate")[0] == 200
        found.give("gate")  # a step that was under way
        assert b'emotion_people{source="gate"} 0.0' in found.ask("GET", "/metrics")[2]
        assert [one["name"] for one in found.json("GET", "/cameras")[1]["cameras"]] == ["door"]
        assert found.ask("GET", "/stream.mjpg?source=gate")[0] == 404


@pytest.mark.parametrize("path", ["/metrics", "/cameras", "/notice"])
def test_some_answers_hold_no_ids(served: Served, path: str):
    assert b'"id"' not in served.ask("GET", path)[2]


def test_metrics_are_read_by_the_parser_of_prometheus_and_are_about_nobody(served: Served):
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - part of the extra

    _, headers, body = served.ask("GET", "/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [each for family in text_string_to_metric_families(body.decode()) for each in family.samples]
    assert {name for each in samples for name in each.labels} <= {
        "source",
        "stage",
        "status",
        "version",
        "le",
    }
    found = {each.name for each in samples}
    assert found >= {"emotion_frames_total", "emotion_people", "emotion_capture_to_event_seconds_bucket"}
    highest = [
        each.labels["le"] for each in samples if each.name == "emotion_capture_to_event_seconds_bucket"
    ]
    assert highest[-2:] == ["2.5", "+Inf"]
