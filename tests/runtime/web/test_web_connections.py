"""Connections to the server: how many a client has, for how long, and what a mistake of the program does."""

import http.client
import socket
import time

import pytest
from served import Served, serving, watch
from websockets.exceptions import ConnectionClosed

from emotion_runtime.web.limits import WebLimits
from emotion_runtime.web.opening import WebOptions
from emotion_runtime.web.server import still_silent


def connected(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), 5)


def is_open(connection: socket.socket) -> bool:
    """Send a request; return whether it is answered."""
    try:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return connection.recv(4096).startswith(b"HTTP/1.1")
    except ConnectionError:
        return False


def test_a_client_has_a_limited_number_of_connections():
    limits = WebLimits(connections_per_client=3)
    with serving(WebOptions(place="127.0.0.1:0", limits=limits)) as found:
        silent = [connected(found) for _ in range(3)]
        with connected(found) as fourth:
            assert not is_open(fourth)
        assert all(map(is_open, silent))
        silent.pop().close()
        give_up = time.monotonic() + 5
        answered = False
        while not answered and time.monotonic() < give_up:
            with connected(found) as again:
                answered = is_open(again)
        assert answered
        for each in silent:
            each.close()


class Standing:
    """Stands for a request of uvicorn, or for a connection."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


def test_only_the_time_without_a_request_counts():
    first, second, slow = (Standing(response_complete=each) for each in (True, True, False))
    new, used, busy = (Standing(cycle=each) for each in (None, first, slow))
    connections = [new, used, busy, Standing()]  # the last one is that of a WebSocket
    since = still_silent(connections, {}, 1.0)
    assert since == {(new, None): 1.0, (used, first): 1.0}
    used.cycle = second  # answered between two looks
    assert still_silent(connections, since, 2.0) == {(new, None): 1.0, (used, second): 2.0}


@pytest.mark.slow
def test_a_connection_that_is_used_all_the_time_is_not_cut_off():
    limits = WebLimits(silent_seconds=2.0)
    with serving(WebOptions(place="127.0.0.1:0", limits=limits)) as found:
        connection = http.client.HTTPConnection("127.0.0.1", found.port, timeout=10)
        connection.connect()
        first = connection.sock
        for _ in range(18):
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b'{"status":"ok"}'
            assert connection.sock is first
            time.sleep(0.3)
        connection.close()


@pytest.mark.parametrize("mistake", [TimeoutError, ConnectionError, RuntimeError])
def test_a_mistake_of_the_program_is_logged_whatever_it_raises(
    mistake: type[Exception],
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def fail(*_: object) -> None:
        raise mistake("of our own")

    monkeypatch.setattr(served.sink._state.session, "encoded", fail)
    assert served.ask("GET", "/summary")[0] == 500
    assert is_logged("of our own", caplog)
    caplog.clear()
    monkeypatch.setattr(served.sink._state.newest, "after", fail)
    with watch(served) as viewer, pytest.raises(ConnectionClosed):
        [viewer.recv(timeout=5) for _ in range(1000)]
    assert is_logged("of our own", caplog)


def is_logged(text: str, caplog: pytest.LogCaptureFixture) -> bool:
    """Wait until a text is logged, which follows the answer."""
    give_up = time.monotonic() + 5
    while text not in caplog.text and time.monotonic() < give_up:
        time.sleep(0.01)
    return text in caplog.text
