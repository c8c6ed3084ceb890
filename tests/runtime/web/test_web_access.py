"""Who may see the page: hosts, origins and tokens, without a server."""

import base64
from pathlib import Path

import pytest

from emotion_runtime.errors import EmotionError
from emotion_runtime.web.access import Access, make_token, read_token
from emotion_runtime.web.place import Place, parse_place

TOKEN = "a-token-of-more-than-16-characters"  # noqa: S105 - of the tests


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("0.0.0.0:80", "0.0.0.0", 80),  # noqa: S104
        ("[::1]:8080", "::1", 8080),
        ("LocalHost:0", "localhost", 0),
        ("cam.example:65535", "cam.example", 65535),
    ],
)
def test_places_are_parsed(text: str, host: str, port: int):
    assert parse_place(text) == Place(host, port)


@pytest.mark.parametrize(
    "text",
    ["", "8080", ":8080", "127.0.0.1", "127.0.0.1:", "a b:1", "::1:80", "h:70000", "http://a:80", "[x]:1"],
)
def test_other_texts_are_no_places(text: str):
    with pytest.raises(EmotionError, match="expected HOST:PORT"):
        parse_place(text)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("192.168.1.5", False),
        ("::", False),
        ("cam.example", False),
    ],
)
def test_only_this_machine_connects_to_a_loopback_address(host: str, is_loopback: bool):
    assert Place(host, 1).loopback is is_loopback


def allowed(place: str, host: str, arrived_at: str, names: tuple[str, ...] = ()) -> bool:
    return Access(parse_place(place), None, names).host_allowed(host, arrived_at)


@pytest.mark.parametrize(
    ("place", "host", "arrived_at", "expected"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1", True),
        ("127.0.0.1:8080", "localhost:8080", "127.0.0.1", True),
        ("127.0.0.1:8080", "LOCALHOST:8080", "127.0.0.1", True),
        ("127.0.0.1:80", "127.0.0.1", "127.0.0.1", True),
        ("[::1]:8080", "[::1]:8080", "::1", True),
        ("0.0.0.0:8080", "192.168.1.5:8080", "192.168.1.5", True),
        ("[::]:8080", "192.168.1.5:8080", "::ffff:192.168.1.5", True),
        ("0.0.0.0:8080", "localhost:8080", "127.0.0.1", True),
        ("cam.example:8080", "cam.example:8080", "10.0.0.1", True),
        # Names that anybody can point at this machine, and addresses of others.
        ("127.0.0.1:8080", "evil.example:8080", "127.0.0.1", False),
        ("127.0.0.1:8080", "127.0.0.1.evil.example:8080", "127.0.0.1", False),
        ("127.0.0.1:8080", "127.0.0.1:9090", "127.0.0.1", False),
        ("127.0.0.1:8080", "127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1:8080", "", "127.0.0.1", False),
        ("127.0.0.1:8080", "127.0.0.1:8080, evil.example", "127.0.0.1", False),
        ("127.0.0.1:8080", "user@127.0.0.1:8080", "127.0.0.1", False),
        ("127.0.0.1:8080", "127.0.0.1:8080/", "127.0.0.1", False),
        ("127.0.0.1:8080", "6.6.6.6:8080", "127.0.0.1", False),
        ("0.0.0.0:8080", "6.6.6.6:8080", "192.168.1.5", False),
        ("0.0.0.0:8080", "evil.example:8080", "192.168.1.5", False),
        ("0.0.0.0:8080", "localhost:8080", "192.168.1.5", False),
        ("192.168.1.5:8080", "localhost:8080", "192.168.1.5", False),
    ],
)
def test_hosts(place: str, host: str, arrived_at: str, expected: bool):
    assert allowed(place, host, arrived_at) is expected


def test_names_of_a_proxy_are_allowed_as_they_are_given():
    assert allowed("127.0.0.1:8080", "cam.example", "127.0.0.1", ("cam.example",))
    assert allowed("127.0.0.1:8080", "cam.example:8443", "127.0.0.1", ("cam.example",))
    assert allowed("127.0.0.1:8080", "cam.example:8443", "127.0.0.1", ("cam.example:8443",))
    assert not allowed("127.0.0.1:8080", "cam.example:1", "127.0.0.1", ("cam.example:8443",))
    assert not allowed("127.0.0.1:8080", "sub.cam.example", "127.0.0.1", ("cam.example",))


HOST = {"host": "127.0.0.1:8080"}
ACCESS = Access(Place("127.0.0.1", 8080), None)


@pytest.mark.parametrize(
    ("headers", "path", "socket", "expected"),
    [
        ({}, "/summary", False, True),  # a program
        ({"origin": "http://127.0.0.1:8080"}, "/markers", False, True),
        ({"origin": "https://127.0.0.1:8080"}, "/watch", True, True),
        ({"sec-fetch-site": "same-origin"}, "/stream.mjpg", False, True),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, "/summary", False, True),
        ({"origin": "http://evil.example"}, "/watch", True, False),
        ({"origin": "http://evil.example"}, "/", False, False),
        ({"origin": "null"}, "/watch", True, False),
        ({"origin": ""}, "/watch", True, False),
        ({"origin": "http://127.0.0.1:9090"}, "/markers", False, False),
        ({"origin": "http://127.0.0.1:8080.evil.example"}, "/markers", False, False),
        ({"origin": "http://user@127.0.0.1:8080"}, "/markers", False, False),
        ({"origin": "http://[::"}, "/markers", False, False),
        ({"origin": "file://127.0.0.1:8080"}, "/markers", False, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}, "/stream.mjpg", False, False),
        ({"sec-fetch-site": "same-site", "sec-fetch-dest": "image"}, "/stream.mjpg", False, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "websocket"}, "/watch", True, False),
        (
            {"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe", "sec-fetch-mode": "navigate"},
            "/",
            False,
            False,
        ),
    ],
)
def test_origins(headers: dict[str, str], path: str, socket: bool, expected: bool):
    assert ACCESS.origin_allowed(HOST | headers, "GET", path, socket=socket) is expected


def test_other_sites_may_link_to_the_page_and_not_to_what_it_shows():
    link = HOST | {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
    }
    assert ACCESS.origin_allowed(link, "GET", "/", socket=False)
    assert not ACCESS.origin_allowed(link, "POST", "/", socket=False)
    assert not ACCESS.origin_allowed(link, "GET", "/stream.mjpg", socket=False)


def basic(password: str) -> str:
    return f"Basic {base64.b64encode(f'viewer:{password}'.encode()).decode()}"


def test_a_token_is_taken_from_a_cookie_and_from_authorization():
    access = Access(Place("0.0.0.0", 8080), TOKEN)  # noqa: S104
    cookie = access.set_cookie(secure=False)
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    pair = cookie.partition(";")[0]
    assert access.token_allowed({"cookie": pair})
    assert access.token_allowed({"cookie": f"other=1; {pair}"})
    assert access.token_allowed({"authorization": f"Bearer {TOKEN}"})
    assert access.token_allowed({"authorization": basic(TOKEN)})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": basic("")},
        {"authorization": "Basic !!!"},
        {"authorization": "Bearer \udcff"},
        {"cookie": "emotion_runtime_8080="},
        {"cookie": f"emotion_runtime_8080={TOKEN}"},
        {"cookie": "\x00;;=;"},
    ],
)
def test_a_wrong_token_is_refused(headers: dict[str, str]):
    assert not Access(Place("0.0.0.0", 8080), TOKEN).token_allowed(headers)  # noqa: S104


def test_a_cookie_of_another_token_is_refused():
    place = Place("0.0.0.0", 8080)  # noqa: S104
    pair = Access(place, make_token()).set_cookie(secure=False).partition(";")[0]
    assert not Access(place, make_token()).token_allowed({"cookie": pair})


def test_the_token_of_a_file_is_read(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(str(file)) == TOKEN


@pytest.mark.parametrize("content", [b"", b"short", b"two words of a long token", b"\xff" * 40, b"x" * 1000])
def test_a_file_without_a_suitable_token_is_a_mistake(tmp_path: Path, content: bytes):
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(EmotionError, match="expected one word") as caught:
        read_token(str(file))
    assert "long token" not in str(caught.value)


def test_a_missing_file_is_a_mistake(tmp_path: Path):
    with pytest.raises(EmotionError, match="cannot be read"):
        read_token(str(tmp_path / "none"))
