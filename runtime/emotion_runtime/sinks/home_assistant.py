"""Announce cameras to Home Assistant: the message of its MQTT device discovery."""

from typing import Any

from emotion_runtime import __version__

STATUS_TOPIC = "homeassistant/status"  # where Home Assistant says "online" when it has started
_NAME = "emotion-runtime"
_URL = "https://github.com/emotion-runtime/emotion-runtime"


def discovery_topic(device: str) -> str:
    """Return the topic of the message for a device, whose id consists of letters, digits, _ and -."""
    return f"homeassistant/device/{device}/config"


def discovery(
    name: str, device: str, topic: str, availability: str, labels: tuple[str, ...]
) -> dict[str, Any]:
    """Return the message that announces one camera, with its sensors and its switch.

    There is none for a single person: ids count up without end, and so would the entities.

    Args:
        name: Name of the source.
        device: Id of the device; never changes for a camera.
        topic: Topic of the camera; below it are `state` and `pause/set`.
        availability: Topic that says whether this program runs.
        labels: Names of the emotions that the head predicts.
    """
    components = {
        key: {**component, "unique_id": f"{device}_{key}"}
        for key, component in {**_components(topic, labels), **_shares(labels)}.items()
    }
    return {
        "device": {
            "identifiers": [device],
            "name": f"Emotion {name}",
            "manufacturer": _NAME,
            "model": "camera",
            "sw_version": __version__,
        },
        "origin": {"name": _NAME, "sw_version": __version__, "support_url": _URL},
        "state_topic": f"{topic}/state",
        "availability_topic": availability,
        # "stopped" is none of the two payloads that Home Assistant knows.
        "availability_template": "{{ 'online' if value == 'online' else 'offline' }}",
        "components": components,
    }


def _components(topic: str, labels: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the entities of a camera apart from the shares of labels, by their keys."""
    diagnostic = {"entity_category": "diagnostic"}
    measured = {"platform": "sensor", "state_class": "measurement"}
    return {
        "people": {**measured, **_shown("People", "people"), "icon": "mdi:account-group"},
        "label": {
            "platform": "sensor",
            **_shown("Dominant emotion", "label"),
            "device_class": "enum",
            "options": list(labels),
            "icon": "mdi:emoticon-outline",
        },
        "fps": {**measured, **_shown("Frame rate", "fps"), "unit_of_measurement": "fps", **diagnostic},
        "latency": {
            **measured,
            **_shown("Latency p95", "latency_p95_ms"),
            "device_class": "duration",
            "unit_of_measurement": "ms",
            **diagnostic,
        },
        "connection": {
            "platform": "binary_sensor",
            **_shown("Connection", "connected"),
            "device_class": "connectivity",
            "payload_on": "True",  # as templates write it
            "payload_off": "False",
            **diagnostic,
        },
        "pause": {
            "platform": "switch",
            **_shown("Pause", "paused"),
            "command_topic": f"{topic}/pause/set",
            "state_on": "True",
            "state_off": "False",
            "icon": "mdi:pause",
        },
    }


def _shares(labels: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the entities of the shares of labels, by their keys."""
    return {
        f"share_{index}": {
            "platform": "sensor",
            "state_class": "measurement",
            "name": f"Share {label}",
            "value_template": f"{{{{ value_json.shares[{_quoted(label)}] }}}}",
            "unit_of_measurement": "%",
            "suggested_display_precision": 0,
        }
        for index, label in enumerate(labels)
    }


def _shown(name: str, key: str) -> dict[str, str]:
    return {"name": name, "value_template": f"{{{{ value_json.{key} }}}}"}


def _quoted(label: str) -> str:
    """Return a label as a string of a template."""
    escaped = label.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
