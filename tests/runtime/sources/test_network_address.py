"""Addresses of network sources: what is valid, and that no message repeats a password."""

import pytest
from stream_servers import PASSWORD

from emotion_runtime.errors import EmotionError
from emotion_runtime.sources.network import connect_network
from emotion_runtime.sources.network_address import parse_address


def test_an_address_is_taken_apart():
    address = parse_address("RTSP://joe:p%40ss%23@cam.lan/live?channel=1#transport=udp")
    assert address.uri == "rtsp://joe:p%40ss%23@cam.lan/live?channel=1"
    assert address.bare == "rtsp://cam.lan/live?channel=1"
    assert (address.scheme, address.host, address.port) == ("rtsp", "cam.lan", 554)
    assert (address.user, address.password) == ("joe", "p@ss#")
    assert address.options == {"transport": "udp"}


def test_a_password_may_hold_an_at_sign():
    assert parse_address("http://joe:a@b@cam:8080").password == "a@b"  # noqa: S105
    assert parse_address("http://joe:a@b@cam:8080").bare == "http://cam:8080/"


def test_letters_beyond_ascii_are_encoded_and_what_is_encoded_stays():
    address = parse_address("http://cam/tür%20(1)/a:b;c?x=ü&y=%26+&z='1'")
    assert address.bare == "http://cam/t%C3%BCr%20(1)/a:b;c?x=%C3%BC&y=%26+&z='1'"
    assert address.uri == address.bare


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://",
        "rtsp:///cam",
        f"rtsp://joe:{PASSWORD}@",
        f"rtsp://joe:{PASSWORD}/1@cam/live",
        f"rtsp://joe:{PASSWORD}#1@cam/live",
        f"rtsp://joe:{PASSWORD} 1@cam/live",
        f"http://joe:{PASSWORD}@cam:port/",
        f"http://joe:{PASSWORD}@cam:99999/",
        f"http://joe:{PASSWORD}@[::1/",
        f"rtsp://joe:{PASSWORD}@cam/#transport=quic",
        f"rtsp://joe:{PASSWORD}@cam/#every=1",
        f"rtsp://joe:{PASSWORD}@cam/#{PASSWORD}",
        f"http://joe:{PASSWORD}@cam/a.jpg#every=no",
        f"http://joe:{PASSWORD}@cam/a.jpg#every=nan",
        f"http://joe:{PASSWORD}@cam/a.jpg#every=0",
    ],
)
def test_a_mistake_is_said_without_the_address(uri: str):
    with pytest.raises(EmotionError, match="expected") as caught:
        connect_network(uri)
    assert PASSWORD not in str(caught.value)
    assert "cam" not in str(caught.value)


def test_an_address_is_not_printed():
    assert PASSWORD not in repr(parse_address(f"rtsp://joe:{PASSWORD}@cam/"))
