"""The message that announces a camera to Home Assistant, against the options that it accepts."""

import json
from importlib import import_module
from typing import Any, Literal

import jinja2
import msgspec
import pytest
from sample_events import EMOTIONS, event, person

from emotion_runtime.sinks.home_assistant import discovery, discovery_topic
from emotion_runtime.sinks.mqtt_camera import MqttCamera

# The options of DEVICE_DISCOVERY_SCHEMA and of the platforms of Home Assistant that are used, with its rules,
# as in components/mqtt/{schemas,sensor,binary_sensor,switch}.py of homeassistant 2025.4.4.
Category = Literal["diagnostic", "config"]


class Described(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    unique_id: str
    name: str
    value_template: str
    icon: str | None = None
    entity_category: Category | None = None


class Sensor(Described, tag_field="platform", tag="sensor", kw_only=True):
    device_class: Literal["enum", "duration"] | None = None
    state_class: Literal["measurement", "total", "total_increasing"] | None = None
    unit_of_measurement: str | None = None
    options: list[str] | None = None
    suggested_display_precision: int | None = None


class BinarySensor(Described, tag_field="platform", tag="binary_sensor", kw_only=True):
    device_class: Literal["connectivity"]
    payload_on: str
    payload_off: str


class Switch(Described, tag_field="platform", tag="switch", kw_only=True):
    command_topic: str
    state_on: str
    state_off: str
    payload_on: str = "ON"
    payload_off: str = "OFF"


class Device(msgspec.Struct, forbid_unknown_fields=True):
    identifiers: list[str]
    name: str
    manufacturer: str
    model: str
    sw_version: str


class Origin(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    sw_version: str
    support_url: str


class Discovery(msgspec.Struct, forbid_unknown_fields=True):
    device: Device
    origin: Origin
    components: dict[str, Sensor | BinarySensor | Switch]
    state_topic: str
    availability_topic: str
    availability_template: str


@pytest.fixture
def message() -> dict[str, Any]:
    given = discovery("front door", "emotion_front", "emotion/front", "emotion/availability", EMOTIONS)
    return json.loads(json.dumps(given))


def rendered(template: str, **values: Any) -> str:
    return jinja2.Environment(autoescape=False).from_string(template).render(**values)  # noqa: S701


def state(*, paused: bool = False, status: str = "live") -> dict[str, Any]:
    camera = MqttCamera("front door", EMOTIONS)
    camera.add(event(person(1, (0, 0, 1, 1)), person(2, (0, 0, 1, 1))))
    camera._status = status
    camera.paused = paused
    return json.loads(json.dumps(camera.values()))


def test_options_are_those_of_home_assistant(message: dict[str, Any]):
    checked = msgspec.convert(message, Discovery)
    sensors = [each for each in checked.components.values() if isinstance(each, Sensor)]
    for sensor in sensors:
        assert (sensor.device_class == "enum") == (sensor.options is not None)
        if sensor.options is not None:  # an enumeration is no measurement
            assert sensor.state_class is None
            assert sensor.unit_of_measurement is None
        if sensor.device_class == "duration":
            assert sensor.unit_of_measurement in ("μs", "ms", "s", "min", "h", "d")
    ids = [each.unique_id for each in checked.components.values()]
    assert len(set(ids)) == len(ids) == 6 + len(EMOTIONS)
    assert checked.availability_topic == "emotion/availability"
    assert discovery_topic("emotion_front") == "homeassistant/device/emotion_front/config"


@pytest.mark.nightly
def test_home_assistant_itself_accepts_the_components(message: dict[str, Any]):
    """`pip install homeassistant "paho-mqtt<2"`: version 2024.3.3 with Python 3.11 accepted them all.

    It is older than device discovery and than `options`, which it removes; newer versions need Python 3.13.
    """
    pytest.importorskip("homeassistant.components.mqtt", reason="needs homeassistant")
    shared = {key: value for key, value in message.items() if key != "components"}
    for component in message["components"].values():
        platform = import_module(f"homeassistant.components.mqtt.{component['platform']}")
        accepted = platform.DISCOVERY_SCHEMA(shared | component)
        assert component.keys() - {"platform", "options"} <= accepted.keys()  # others are removed silently


@pytest.mark.nightly
def test_home_assistant_itself_accepts_the_message(message: dict[str, Any]):
    """With Python 3.13 and a homeassistant of 2024.12 or newer. Never run so far: UNVERIFIED."""
    schemas = pytest.importorskip("homeassistant.components.mqtt.schemas", reason="needs homeassistant")
    schemas.DEVICE_DISCOVERY_SCHEMA(message)


def test_every_template_finds_its_value(message: dict[str, Any]):
    components = message["components"]
    shown = {key: rendered(each["value_template"], value_json=state()) for key, each in components.items()}
    assert shown["people"] == "2"
    assert shown["label"] in components["label"]["options"]
    assert float(shown["share_3"]) == pytest.approx(57.1)
    assert float(shown["latency"]) == 12.3
    assert float(shown["fps"]) > 0
    assert shown["connection"] == components["connection"]["payload_on"]
    assert shown["pause"] == components["pause"]["state_off"]


def test_what_is_unknown_is_none_which_home_assistant_shows_as_unknown(message: dict[str, Any]):
    components = message["components"]
    shown = {
        key: rendered(each["value_template"], value_json=state(status="lost"))
        for key, each in components.items()
    }
    assert {shown[key] for key in ("people", "label", "share_0", "share_6")} == {"None"}
    assert shown["connection"] == components["connection"]["payload_off"]
    paused = state(paused=True)
    assert (
        rendered(components["pause"]["value_template"], value_json=paused) == components["pause"]["state_on"]
    )
    assert rendered(components["connection"]["value_template"], value_json=paused) == "None"


@pytest.mark.parametrize(
    ("value", "shown"), [("online", "online"), ("offline", "offline"), ("stopped", "offline")]
)
def test_availability(message: dict[str, Any], value: str, shown: str):
    assert rendered(message["availability_template"], value=value) == shown


def test_labels_with_quotes():
    label = "don't \\ {{ care }}"
    message = discovery("a", "a", "a", "b", (label,))
    template = message["components"]["share_0"]["value_template"]
    assert rendered(template, value_json={"shares": {label: 5}}) == "5"
