"""Packets that get lost and cables that are pulled, in network namespaces that the test makes and removes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from stream_servers import PYTHON, SERVER, free_port, need_parts

# Prints the time of every frame and every change of the status.
READER = """
import sys, time
from emotion_runtime.sources.live import LiveSource
from emotion_runtime.sources.live_limits import LiveLimits
from emotion_runtime.sources.network import connect_network
from emotion_runtime.sources.network_address import NetworkLimits

connect = connect_network(sys.argv[1], NetworkLimits(opening=2, silence=1))
source = LiveSource("cam", connect, LiveLimits(frozen=0))
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    frame = source.poll()
    if frame is not None:
        print("frame", time.monotonic(), frame.index, float(frame.image.std()), flush=True)
    for line in source.take_statuses():
        print("status", time.monotonic(), line.status, line.reason, flush=True)
    time.sleep(0.005)
source.close()
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@dataclass(frozen=True)
class Cable:
    """Two network namespaces with a cable between them."""

    server: str
    client: str

    def at_server(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.server, *command]

    def at_client(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.client, *command]

    def lose(self, percent: int) -> None:
        """Lose packets on their way to the client."""
        rules = (
            "add table inet lossy; add chain inet lossy input { type filter hook input priority 0; }; "
            f"add rule inet lossy input numgen random mod 100 < {percent} drop"
        )
        subprocess.run(self.at_client("nft", rules), check=True, capture_output=True)

    def plug(self, state: str) -> None:
        subprocess.run(self.at_server("ip", "link", "set", "server0", state), check=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    need_parts()
    made = Cable(f"server{os.getpid()}", f"client{os.getpid()}")
    try:
        ip("netns", "add", made.server)
        ip("netns", "add", made.client)
        ip(
            "link",
            "add",
            "server0",
            "netns",
            made.server,
            "type",
            "veth",
            "peer",
            "client0",
            "netns",
            made.client,
        )
        for place, device, address in (
            (made.at_server, "server0", "10.77.0.1/24"),
            (made.at_client, "client0", "10.77.0.2/24"),
        ):
            for command in (["addr", "add", address, "dev", device], ["link", "set", device, "up"]):
                subprocess.run(place("ip", *command), check=True, capture_output=True)
            subprocess.run(place("ip", "link", "set", "lo", "up"), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        remove(made)
        reason = f"network namespaces cannot be made here: {error}"
        as_root = os.environ.get("CI") == "true" and os.geteuid() == 0
        pytest.fail(reason) if as_root else pytest.skip(reason)
    yield made
    remove(made)


def remove(cable: Cable) -> None:
    for name in (cable.server, cable.client):
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def read(
    cable: Cable,
    *,
    protocols: str = "tcp,udp",
    seconds: float = 8,
    act: Callable[[], None] = lambda: None,
) -> list[list[str]]:
    """Serve in one namespace and read in the other, do something in between, and return what was printed."""
    port = free_port()
    command = [PYTHON, str(SERVER), str(port), "--address", "10.77.0.1", "--protocols", protocols]
    server = subprocess.Popen(cable.at_server(*command), stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        uri = f"rtsp://10.77.0.1:{port}/cam"
        reader = subprocess.Popen(
            cable.at_client(sys.executable, "-c", READER, uri, str(seconds)),
            stdout=subprocess.PIPE,
            text=True,
        )
        act()
        out, _ = reader.communicate(timeout=60)
        assert reader.returncode == 0
        return [line.split(maxsplit=3) for line in out.splitlines()]
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def times(lines: list[list[str]]) -> list[float]:
    return [float(line[1]) for line in lines if line[0] == "frame"]


@pytest.mark.slow
@pytest.mark.alone
def test_a_cable_that_is_pulled_and_plugged_in_again(cable: Cable):
    def act() -> None:
        time.sleep(3)
        cable.plug("down")
        time.sleep(2)
        cable.plug("up")
        plugged.append(time.monotonic())

    plugged: list[float] = []
    lines = read(cable, seconds=11, act=act)
    assert any(line[2:3] == ["lost"] for line in lines if line[0] == "status")
    seen = times(lines)
    back = min(moment for moment in seen if moment > plugged[0])
    assert back - plugged[0] < 5
    assert max(seen) - back > 1


@pytest.mark.nightly
def test_a_cable_that_is_out_for_a_moment_only(cable: Cable):
    def act() -> None:
        time.sleep(4)
        cable.plug("down")
        time.sleep(0.4)
        cable.plug("up")

    lines = read(cable, seconds=8, act=act)
    assert [line[2] for line in lines if line[0] == "status"] == ["connecting", "live"]


@pytest.mark.slow
def test_tcp_delivers_every_image_where_packets_are_lost(cable: Cable):
    cable.lose(3)
    lines = read(cable, seconds=5)
    assert len(times(lines)) > 20
    assert "lost" not in [line[2] for line in lines if line[0] == "status"]


@pytest.mark.nightly
def test_udp_goes_on_where_packets_are_lost(cable: Cable):
    """Some images are damaged, and nothing says so: this is why TCP is preferred."""
    cable.lose(5)
    assert len(times(read(cable, protocols="udp", seconds=8))) > 40
