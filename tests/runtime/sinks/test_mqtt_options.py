"""Addresses of MQTT brokers, and options of MQTT."""

from pathlib import Path
from typing import Any

import pytest

from emotion_runtime.cli import main
from emotion_runtime.config import RunConfig, as_toml
from emotion_runtime.config_checks import check_runnable
from emotion_runtime.errors import EmotionError
from emotion_runtime.options import parser
from emotion_runtime.sinks.mqtt_options import BrokerAddress, parse_broker


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://host", BrokerAddress("host", 1883, tls=False, prefix="emotion")),
        ("mqtts://host/", BrokerAddress("host", 8883, tls=True, prefix="emotion")),
        ("mqtt://[::1]:1884/home/cam-1.a", BrokerAddress("::1", 1884, tls=False, prefix="home/cam-1.a")),
        ("mqtt://host/Küche", BrokerAddress("host", 1883, tls=False, prefix="Küche")),
        ("mqtt://me@host", BrokerAddress("host", 1883, tls=False, user="me")),
        (
            "mqtts://m%40e:p%2Fw%23@host",
            BrokerAddress("host", 8883, tls=True, user="m@e", password="p/w#"),  # noqa: S106
        ),
    ],
)
def test_addresses(url: str, expected: BrokerAddress):
    assert parse_broker(url) == expected


def test_passwords_from_the_environment_and_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MQTT_PASSWORD", "p@ss/w:rd?#%41")
    (tmp_path / "secret").write_text("from file\n")
    monkeypatch.setenv("MQTT_URL", "mqtts://me:a%40b@host/x")
    urls = ["mqtts://me:${MQTT_PASSWORD}@host", f"mqtts://me:${{file:{tmp_path}/secret}}@host", "${MQTT_URL}"]
    assert [parse_broker(url).password for url in urls] == ["p@ss/w:rd?#%41", "from file", "a@b"]
    address = parse_broker("mqtts://me:${MQTT_PASSWORD}@host")
    assert "p@ss" not in repr(address) + str(address)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "does not begin with mqtt://"),
        ("host:1883", "does not begin with mqtt://"),
        ("http://host", "does not begin with mqtt://"),
        ("mqtt://", "no host"),
        ("mqtt://:1883", "no host"),
        ("mqtt://host:0", "a port from 1 to 65535"),
        ("mqtt://host:70000", "host or the port is not valid"),
        ("mqtt://host:port", "host or the port is not valid"),
        ("mqtt://[::1", "host or the port is not valid"),
        ("mqtt://host/a+b", "begin, may have letters"),
        ("mqtt://host/a//b", "begin, may have letters"),
        ("mqtt://host/$SYS", "begin, may have letters"),
        ("mqtt://host/a b", "begin, may have letters"),
        ("mqtt://host/" + "a" * 201, "at most 200 characters"),
        ("mqtt://host/#", "has ? or # in it"),
        ("mqtt://host?qos=1", "has ? or # in it"),
        ("mqtt://me:s3cr#et@host", "password"),
        ("mqtt://me:s3cr/et@host", "password"),
        ("mqtt://:s3cret@host", "a password without a user"),
        ("mqtt://me:${NOT_SET_ANYWHERE}@host", "NOT_SET_ANYWHERE, which --mqtt needs, is not set"),
    ],
)
def test_a_mistake_is_said_without_the_address(url: str, expected: str):
    with pytest.raises(EmotionError) as error:
        parse_broker(url)
    assert expected in str(error.value)
    assert "s3cr" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mqtt_ca": "ca.pem"}, "--mqtt-ca needs a broker"),
        ({"mqtt_every": 5.0}, "--mqtt-every needs a broker"),
        ({"mqtt_discovery": False}, "--no-mqtt-discovery needs a broker"),
        ({"mqtt": "mqtt://host", "mqtt_ca": "ca.pem"}, "give --mqtt mqtts://"),
        ({"mqtt": "mqtt://host", "mqtt_every": 0.0}, "expected seconds, from 0.5 to 3600"),
        ({"mqtt": "mqtt://host", "mqtt_every": float("nan")}, "expected seconds, from 0.5 to 3600"),
        ({"mqtt": "tcp://host"}, "does not begin with mqtt://"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], expected: str):
    with pytest.raises(EmotionError, match=expected):
        check_runnable(RunConfig(source=["demo"], **options))


def test_the_printed_configuration_hides_the_password():
    comments = {action.dest: action.help or "" for action in parser()._actions}
    text = as_toml(RunConfig(mqtt="mqtts://me:s3cret@host/x"), comments)
    assert "s3cret" not in text
    assert 'mqtt = "mqtts://me:***@host/x"' in text


def test_results_do_not_name_the_broker():
    assert RunConfig(mqtt="mqtts://me:s3cret@host", mqtt_ca="ca.pem", mqtt_every=1.0).changed == {}


def test_the_command_ends_with_one_line(capsys: pytest.CaptureFixture[str]):
    assert main(["--source", "demo", "--mqtt", "mqtt://me:s3cr#et@host"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "s3cr" not in lines[0]
