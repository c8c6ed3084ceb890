"""Who is refused: other hosts, pages of other sites, and who has no token or a wrong one."""

import json
import socket
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from served import MANY, Served, first_image, read_stream, serving, watch
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from emotion_runtime.web.limits import WebLimits
from emotion_runtime.web.opening import WebOptions

TOKEN = "a-token-of-more-than-16-characters"  # noqa: S105 - of the tests
GETS = ["/", "/app.js", "/notice", "/openapi.json", "/metrics", "/cameras", "/markers", "/summary"]
ENDLESS = ["/stream.mjpg", "/events"]
OPEN = ["/healthz", "/readyz", "/app.css", "/icon.svg", "/sign-in"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(TOKEN)
    with serving(WebOptions(place="0.0.0.0:0", token_file=str(file), limits=MANY)) as found:
        yield found


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/app.js",
        "/app.js/",
        "//etc/passwd",
        "/app.js%00",
        "/..%5c..%5cwindows",
        "/.git/config",
        "/index.html",
        "/cameras/pause/..",
        "/%",
    ],
)
def test_other_paths_lead_nowhere(served: Served, path: str):
    status, _, body = served.ask("GET", path)
    assert status in (400, 404)
    assert b"root:" not in body


@pytest.mark.parametrize("path", [*GETS, *ENDLESS, *OPEN])
def test_a_foreign_host_is_refused(served: Served, path: str):
    assert served.ask("GET", path, headers={"Host": "evil.example"})[0] == 421
    assert served.ask("GET", path, headers={"Host": f"evil.example:{served.port}"})[0] == 421


@pytest.mark.parametrize("path", [*GETS, *ENDLESS])
def test_a_foreign_page_is_refused(served: Served, path: str):
    assert served.ask("GET", path, headers={"Origin": "http://evil.example"})[0] == 403
    assert (
        served.ask("GET", path, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"})[0] == 403
    )


def test_a_foreign_page_cannot_post(served: Served):
    headers = {"Origin": "http://evil.example", "content-type": "text/plain"}
    for path in ("/markers", "/analyze", "/cameras", "/cameras/pause"):
        assert served.ask("POST", path, "{}", headers)[0] == 403


def test_a_foreign_host_cannot_open_a_websocket(served: Served):
    with (
        socket.create_connection(("127.0.0.1", served.port)) as known,
        pytest.raises(InvalidStatus) as caught,
    ):
        connect("ws://evil.example/watch", sock=known, compression=None)
    assert caught.value.response.status_code == 403


def test_behind_a_proxy_with_tls_the_page_works_under_its_name(tmp_path: Path):
    (tmp_path / "token").write_text(TOKEN)
    options = WebOptions(
        place="127.0.0.1:0", token_file=str(tmp_path / "token"), names=["cam.example"], limits=MANY
    )
    with serving(options) as found:
        headers = {"Host": "cam.example", "X-Forwarded-Proto": "https"}
        cookie = found.ask("GET", f"/sign-in?token={TOKEN}", headers=headers)[1]["set-cookie"]
        assert cookie.endswith("; Secure")
        headers |= {
            "Cookie": f'other={{"a": 1}}; {cookie.partition(";")[0]}',
            "Origin": "https://cam.example",
        }
        assert found.ask("GET", "/summary", headers=headers)[0] == 200
        assert found.ask("GET", "/summary", headers=headers | {"Origin": "https://evil.example"})[0] == 403


@pytest.mark.parametrize("path", [*ENDLESS, "/summary", "/"])
def test_a_wrong_token_opens_nothing(guarded: Served, path: str):
    wrong = "a-wrong-token-of-more-than-16-characters"
    cookie = f"emotion_runtime_{guarded.port}={wrong}"
    for headers in ({"Authorization": f"Bearer {wrong}"}, {"Cookie": cookie}):
        status, _, body = guarded.ask("GET", path, headers=headers)
        assert status == 401
        assert wrong.encode() not in body
        with pytest.raises(InvalidStatus):
            watch(guarded, additional_headers=headers)


def test_a_mistake_of_the_server_tells_no_details(served: Served, monkeypatch: pytest.MonkeyPatch):
    def look(_: object) -> None:
        raise ValueError("/home/secret")

    monkeypatch.setattr(served.sink._state.analyses, "_look", look)
    data = BytesIO()
    Image.new("RGB", (8, 8)).save(data, "PNG")
    status, headers, body = served.ask("POST", "/analyze", data.getvalue())
    assert status == 500
    assert json.loads(body) == {"error": "the server made a mistake; its log has the details"}
    assert "content-security-policy" in headers


def test_a_foreign_page_cannot_open_a_websocket(served: Served):
    with pytest.raises(InvalidStatus) as caught:
        watch(served, origin="http://evil.example")
    assert caught.value.response.status_code == 403
    with watch(served, origin=f"http://127.0.0.1:{served.port}") as connection:
        assert first_image(connection)


@pytest.mark.parametrize("path", [*GETS, *ENDLESS, "/stream.mjpg?token=" + TOKEN])
def test_without_a_token_nothing_is_shown(guarded: Served, path: str):
    status, headers, body = guarded.ask("GET", path)
    assert status == 401
    assert TOKEN.encode() not in body
    assert "www-authenticate" in headers
    status, _, body = guarded.ask("GET", path, headers={"accept": "text/html"})
    assert status == 401
    assert b"<h1>Sign in</h1>" in body


def test_without_a_token_nothing_can_be_done(guarded: Served):
    for path in ("/markers", "/analyze", "/cameras", "/cameras/pause", "/cameras/resume"):
        assert guarded.ask("POST", path, "{}", {"content-type": "application/json"})[0] == 401
    assert guarded.ask("DELETE", "/cameras?name=door")[0] == 401
    with pytest.raises(InvalidStatus):
        watch(guarded)


@pytest.mark.parametrize("path", OPEN)
def test_health_needs_no_token(guarded: Served, path: str):
    assert guarded.ask("GET", path)[0] == 200


def test_signing_in_sets_a_cookie_that_opens_everything(guarded: Served):
    status, headers, body = guarded.ask("GET", f"/sign-in?token={TOKEN}")
    assert status == 200
    assert b'<meta http-equiv="refresh" content="0; url=/">' in body
    assert "SameSite=Strict" in headers["set-cookie"]
    assert "HttpOnly" in headers["set-cookie"]
    cookie = {"Cookie": headers["set-cookie"].partition(";")[0]}
    assert guarded.ask("GET", "/", headers=cookie)[0] == 200
    with watch(guarded, additional_headers=cookie) as connection:
        assert first_image(connection)
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert guarded.ask("POST", "/sign-in", f"token={TOKEN}", form)[1]["set-cookie"] == headers["set-cookie"]
    assert "set-cookie" not in guarded.ask("POST", "/sign-in", "token=wrong", form)[1]
    assert guarded.ask("GET", "/summary", headers={"Authorization": f"Bearer {TOKEN}"})[0] == 200
    assert b"boundary" in read_stream(guarded, "/stream.mjpg", 500, f"Authorization: Bearer {TOKEN}\r\n")


def test_a_token_from_a_file_is_not_printed(guarded: Served):
    assert TOKEN not in guarded.line


def test_a_token_is_made_and_printed_once_for_other_addresses():
    with serving(WebOptions(place="0.0.0.0:0", limits=MANY)) as found:
        token = found.line.partition("token=")[2].split()[0]
        assert len(token) > 40
        assert found.ask("GET", "/summary")[0] == 401
        assert found.ask("GET", "/summary", headers={"Authorization": f"Bearer {token}"})[0] == 200


def test_wrong_tokens_are_counted_and_the_right_one_always_opens(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    options = WebOptions(place="127.0.0.1:0", token_file=str(file), limits=WebLimits(sign_ins_per_minute=3))
    with serving(options) as found:
        wrong = {"Authorization": "Bearer wrong"}
        assert [found.ask("GET", "/", headers=wrong)[0] for _ in range(5)] == [401] * 3 + [429] * 2
        assert found.ask("GET", "/sign-in?token=wrong")[0] == 429
        # Behind a proxy all clients have one address.
        assert found.ask("GET", "/", headers={"Authorization": f"Bearer {TOKEN}"})[0] == 200
        assert found.ask("GET", f"/sign-in?token={TOKEN}")[0] == 200
