"""The address at which a run is served: HOST:PORT."""

import ipaddress
import re
from dataclasses import dataclass

from emotion_runtime.errors import EmotionError

_EXPECTED = "expected HOST:PORT, such as 127.0.0.1:8080, or 0.0.0.0:8080 for all networks of this machine"

# The header `Host`: a name or an address, and maybe a port.
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens.

    Attributes:
        host: IP address or host name, without the brackets of IPv6.
        port: TCP port; 0 lets the system choose one.
    """

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        return self.host == "localhost" or (is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)

    @property
    def every(self) -> bool:
        """Whether it stands for all addresses of this machine."""
        return is_ip(self.host) and ipaddress.ip_address(self.host).is_unspecified

    def __str__(self) -> str:
        """Return the address as it is written in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_place(text: str) -> Place:
    """Return the address that a text stands for.

    Raises:
        EmotionError: The text is not HOST:PORT.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})", text.strip())
    if match is None or int(match[3]) > 65535:
        raise EmotionError(f"--serve {text}: {_EXPECTED}")
    host = (match[1] or match[2]).lower()
    if match[1] and not is_ip(host):
        raise EmotionError(f"--serve {text}: {host} is not an IPv6 address; {_EXPECTED}")
    return Place(host, int(match[3]))


def check_host_name(text: str) -> None:
    """Reject what no request can have as its `Host`, such as the address of a page.

    Raises:
        EmotionError: The text is not NAME or NAME:PORT.
    """
    if HOST.fullmatch(text) is None:
        raise EmotionError(
            f"--serve-name {text}: expected NAME or NAME:PORT, such as camera.example.org, without https:// "
            "and without a path"
        )


def is_ip(host: str) -> bool:
    """Return whether a host is an IP address, and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
