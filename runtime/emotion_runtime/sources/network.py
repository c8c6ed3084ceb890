"""Sources of the network: cameras and servers of RTSP and HTTP."""

from emotion_runtime.sources.network_address import NetworkLimits, parse_address
from emotion_runtime.sources.shots import Connect


def connect_network(uri: str, limits: NetworkLimits | None = None) -> Connect:
    """Return what opens a source of the network.

    Args:
        uri: See `parse_address`.
        limits: Time limits.

    Raises:
        EmotionError: The address is not valid.
    """
    address = parse_address(uri)
    limits = limits or NetworkLimits()
    # Imported when they are used, to keep the start-up time short.
    if address.scheme in ("rtsp", "rtsps"):
        from emotion_runtime.sources.rtsp import read_rtsp  # noqa: PLC0415

        return lambda cancel: read_rtsp(address, limits, cancel)
    from emotion_runtime.sources.http import read_http  # noqa: PLC0415

    return lambda cancel: read_http(address, limits, cancel)
