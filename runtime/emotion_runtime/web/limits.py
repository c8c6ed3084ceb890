"""How much a client may ask for."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_CLIENTS = 1000  # that are remembered


@dataclass(frozen=True, slots=True)
class WebLimits:
    """Limits of the web server.

    Attributes:
        requests_per_second: Of one client, in the long run.
        burst: Requests of one client at once.
        sign_ins_per_minute: Wrong tokens of one client.
        body: Largest body of a request, in bytes.
        image: Largest image for `POST /analyze`, in bytes.
        uploads: Images for `POST /analyze` that are being sent or analysed at once.
        body_seconds: Time for a body to arrive.
        send_seconds: Time for a client to take what is sent to it; then it is cut off.
        silent_seconds: Time for the next request of a connection to arrive.
        connections: Connections at once, of all clients.
        connections_per_client: Connections at once, of one client.
        viewers: Viewers of live images and events at once.
    """

    requests_per_second: float = 50.0
    burst: int = 200
    sign_ins_per_minute: int = 10
    body: int = 16 * 1024
    image: int = 10 * 1024 * 1024
    uploads: int = 8
    body_seconds: float = 15.0
    send_seconds: float = 5.0
    silent_seconds: float = 10.0
    connections: int = 128
    connections_per_client: int = 32
    viewers: int = 64


class RateLimit:
    """Counts the requests of each client. Addresses of one IPv6 network of 64 bits count as one client.

    Args:
        per_second: Requests that a client gains each second.
        burst: The most that it can save up.
        clock: Returns seconds; monotonic.
    """

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when it was

    def take(self, client: str) -> bool:
        """Count a request. Return whether it is within the limit."""
        left = self.left(client)
        self._left[client_key(client)] = (max(left - 1, 0.0), self._clock())
        self._left.move_to_end(client_key(client))
        while len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        return left >= 1

    def left(self, client: str) -> float:
        """Return how many requests a client may make now."""
        now = self._clock()
        left, then = self._left.get(client_key(client), (self._burst, now))
        return min(left + (now - then) * self._per_second, self._burst)


def client_key(client: str) -> str:
    """Return what a client is counted by."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return client
