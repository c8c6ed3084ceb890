"""A mosquitto broker with TLS and a password, for tests, and a client that notes what is published."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "camera", "pass/w@rd 1"


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """A broker on a port of this machine; `start` starts it again after `kill`.

    Args:
        folder: Gets its files.
        port: A free port.
    """

    def __init__(self, folder: Path, port: int) -> None:
        pytest.importorskip("paho.mqtt.client")
        # Debian puts it where only the administrator looks.
        self._program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        if self._program is None or shutil.which("openssl") is None:
            pytest.skip("mosquitto or openssl is not installed")
        self.port = port
        self.ca = folder / "server.crt"
        self._folder = folder
        key = folder / "server.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
             "-keyout", key, "-out", self.ca],
            check=True, capture_output=True,
        )  # fmt: skip
        self.set_password(PASSWORD)
        (folder / "mosquitto.conf").write_text(
            f"listener {port} 127.0.0.1\ncertfile {self.ca}\nkeyfile {key}\nallow_anonymous false\n"
            f"password_file {folder}/passwords\nuser root\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def set_password(self, password: str) -> None:
        """Set the password that holds from the next start on."""
        file = self._folder / "passwords"
        subprocess.run(
            ["mosquitto_passwd", "-b", "-c", file, USER, password], check=True, capture_output=True
        )

    def start(self) -> None:
        log = (self._folder / "mosquitto.log").open("ab")
        command = [str(self._program), "-c", str(self._folder / "mosquitto.conf")]
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        wait_for(self._answers)

    def _answers(self) -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    @contextmanager
    def watched(self) -> Iterator["Watcher"]:
        """Note what is published."""
        watcher = Watcher(self)
        try:
            yield watcher
        finally:
            watcher.close()


class Watcher:
    """Notes all messages, and connects again when the broker was away.

    Attributes:
        messages: Topic, content, and whether the message was retained before.
    """

    def __init__(self, broker: Mosquitto) -> None:
        paho = pytest.importorskip("paho.mqtt.client")
        self.messages: list[tuple[str, bytes, bool]] = []
        self._subscribed = threading.Event()
        self.client: Any = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.username_pw_set(USER, PASSWORD)
        self.client.tls_set(str(broker.ca))
        self.client.reconnect_delay_set(0.1, 0.2)
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = lambda _client, _data, message: self.messages.append(
            (message.topic, message.payload, bool(message.retain))
        )
        self.client.connect("localhost", broker.port)
        self.client.loop_start()
        assert self._subscribed.wait(10)

    def payloads(self, topic: str) -> list[bytes]:
        return [payload for each, payload, _ in list(self.messages) if each == topic]

    def wait_for(self, topic: str, payload: bytes | None = None, seconds: float = 20) -> None:
        wait_for(lambda: any(payload is None or each == payload for each in self.payloads(topic)), seconds)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
