"""Reports to systemd through a real socket, and to the health check of a container."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from emotion_runtime.service_manager import ServiceManager, status_text
from emotion_runtime.types import StatusLine

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this platform has no Unix sockets")


class Systemd:
    """The side of the socket that systemd has."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self._socket.settimeout(0.01)

    def received(self, seconds: float = 0.0) -> list[str]:
        """Return the lines of the datagrams that come until some seconds have passed without one."""
        self._socket.settimeout(max(seconds, 0.01))
        lines = []
        try:
            while True:
                lines += self._socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return lines

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    one = Systemd(str(tmp_path / "notify") if request.param == "file" else f"@emotion-test-{os.getpid()}")
    yield one
    one.close()


def test_life_of_a_run(systemd: Systemd) -> None:
    now = 0.0
    environment = {
        "NOTIFY_SOCKET": systemd.address,
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    with ServiceManager(environment, lambda: now) as manager:
        assert systemd.received() == []
        manager.ready()
        assert systemd.received() == ["READY=1", "WATCHDOG=1", "STATUS=running"]
        for _ in range(40):  # 10 s of a loop with a period of a quarter of a second
            now += 0.25
            manager.alive(lambda: "still\nrunning")
        lines = systemd.received()
        assert lines.count("WATCHDOG=1") == 10  # once a second, three times as often as needed
        assert set(lines) == {"WATCHDOG=1", "STATUS=still running"}
        manager.stopping()
        assert systemd.received()[0] == "STOPPING=1"
    manager.alive(lambda: "")  # after the end
    assert systemd.received() == []


def test_watchdog_of_another_process_is_not_ours(systemd: Systemd) -> None:
    now = 0.0
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "30000", "WATCHDOG_PID": "1"}
    with ServiceManager(environment, lambda: now) as manager:
        for _ in range(25):
            manager.alive(lambda: "running")
            now += 1.0
    assert systemd.received().count("STATUS=running") == 3  # every ten seconds


def test_nothing_happens_without_a_service_manager() -> None:
    with ServiceManager({}) as manager:
        manager.ready()
        manager.alive(lambda: "running")
        manager.stopping()


def test_manager_that_is_gone_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "missing")}) as manager:
        manager.ready()
        manager.stopping()
    assert caplog.text.count("the service manager cannot be told about this run") == 1


def test_manager_that_does_not_read_stops_nothing(systemd: Systemd) -> None:
    now = 0.0
    with ServiceManager({"NOTIFY_SOCKET": systemd.address}, lambda: now) as manager:
        for _ in range(2000):  # far more than the socket holds
            manager.alive(lambda: "running")
            now += 20.0
        assert systemd.received()
        manager.ready()
        assert systemd.received()[0] == "READY=1"


def test_health_file_has_the_time_of_the_last_progress(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now, path = 0.0, tmp_path / "health"
    with ServiceManager({"EMOTION_HEALTH_FILE": str(path)}, lambda: now) as manager:
        manager.ready()
        assert path.read_text() == "running\n"
        os.utime(path, (0, 0))
        manager.alive(lambda: "later")
        assert path.stat().st_mtime == 0
        now = 11.0
        manager.alive(lambda: "later")
        assert path.read_text() == "later\n"
        assert abs(path.stat().st_mtime - time.time()) < 5
    with ServiceManager({"EMOTION_HEALTH_FILE": str(tmp_path / "no" / "health")}) as manager:
        manager.ready()
    assert "health cannot be written (No such file or directory)" in caplog.text


def test_status_in_words() -> None:
    time_of_change = datetime(2026, 1, 1, tzinfo=timezone.utc)
    lines = {
        "door": StatusLine(source="door", time=time_of_change, status="live"),
        "yard": StatusLine(source="yard", time=time_of_change, status="lost", reason="no answer for 5 s"),
        "gate": StatusLine(source="gate", time=time_of_change, status="paused"),
    }
    assert status_text(lines, 12) == (
        "1 of 3 sources live; 12 frames processed; yard lost (no answer for 5 s); gate paused"
    )
    assert status_text({}, 12) == "12 frames processed"


# --- whole runs ---


class Service:
    """The command line as systemd starts it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.systemd = Systemd(str(folder / "notify"))
        variables = {"NOTIFY_SOCKET": self.systemd.address, "WATCHDOG_USEC": "900000", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "emotion_runtime", "--source", "demo", "--realtime"]
        self.process = subprocess.Popen(
            [*command, "--backend", "cpu", *options],
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | variables,
        )

    def until(self, wanted: str, seconds: float = 60.0) -> list[str]:
        """Return what was reported until a line came."""
        lines: list[str] = []
        give_up = time.monotonic() + seconds
        while wanted not in lines:
            assert time.monotonic() < give_up, lines
            lines += self.systemd.received(0.1)
        return lines

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.systemd.close()


@pytest.mark.slow
def test_run_reports_ready_progress_and_its_end(tmp_path: Path) -> None:
    service = Service(tmp_path, "--duration", "3")
    try:
        before = service.until("READY=1")
        assert "WATCHDOG=1" not in before[: before.index("READY=1")]  # while the models were loaded
        lines = service.until("STOPPING=1")
        assert lines.count("WATCHDOG=1") >= 5
        assert any(line.endswith("frames processed") for line in lines)
        _, errors = service.process.communicate(timeout=30)
        assert service.process.returncode == 0, errors
    finally:
        service.close()


@pytest.mark.slow
def test_watchdog_is_not_fed_while_the_loop_hangs(tmp_path: Path) -> None:
    """A reader of events that no longer reads: the loop waits for it in the middle of a line."""
    pipe = tmp_path / "events"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        import fcntl  # noqa: PLC0415 - not there on Windows

        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        service = Service(tmp_path, "--jsonl", str(pipe))
        try:
            service.until("READY=1")
            time.sleep(2)  # 4096 bytes are a few lines
            service.systemd.received()
            assert service.systemd.received(2) == []
            service.process.send_signal(signal.SIGABRT)  # as systemd does then
            stderr = service.process.communicate(timeout=30)[1]
            assert service.process.returncode == -signal.SIGABRT
            assert "Current thread" in stderr
            assert "byte_output.py" in stderr
        finally:
            service.close()
    finally:
        os.close(reader)
