"""Errors of GStreamer in words that say what to do. They hold no address: it may have a password."""

import re

from emotion_runtime.errors import Cause, ConnectionLost

BINDINGS = "python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good"
_CHECK = "check the pipeline with gst-launch-1.0"
_PACKAGES_OF = {  # the elements that are often missing
    "nvidia-l4t-gstreamer": r"nvarguscamerasrc|nvvidconv|nvv4l2\w+|nvjpeg\w+",
    "gstreamer1.0-libcamera": r"libcamerasrc",
    "gstreamer1.0-libav": r"avdec_\w+",
    "gstreamer1.0-plugins-ugly": r"x264enc|asfdemux|a52dec",
    "gstreamer1.0-plugins-bad": (
        r"h26[45]parse|mpegvideoparse|srtsrc|tsdemux|hlsdemux|dashdemux|rtmp2?src|openh264dec|libde265dec|"
        r"nvh26[45]dec|vah26[45]dec|webrtc\w+|decklink\w+"
    ),
    "gstreamer1.0-plugins-good": (
        r"rtspsrc|rtp\w+|udpsrc|v4l2\w+|jpegdec|pngdec|souphttpsrc|multipartdemux|matroskademux|qtdemux|"
        r"avidemux|flvdemux|vp[89]dec|videoflip|videocrop|videobox|imagefreeze|multifilesrc"
    ),
    "gstreamer1.0-plugins-base": (
        r"videoconvert|videoscale|videorate|videotestsrc|appsink|appsrc|(uri)?decodebin3?|playbin3?|"
        r"tcpclientsrc|theoradec"
    ),
}
_FIXES: dict[Cause, str] = {
    "connection": "check the address, and that the other side runs",
    "authentication": "check the user and the password",
    "not found": "check the path or address in the pipeline",
    "permission": "run `sudo usermod -aG video $USER`, then log in again",
    "format": _CHECK,
    "device": "check its cable, and that no other program uses it",
}
_NEGOTIATION = "not-negotiated"


def missing_bindings() -> ConnectionLost:
    """Return the error of a Python without GStreamer."""
    return ConnectionLost(
        f"GStreamer's Python bindings are missing; run `sudo apt install {BINDINGS}`, and make the "
        "environment with `python3 -m venv --system-site-packages`, of the system's own Python",
        "not found",
    )


def missing_element(name: str) -> ConnectionLost:
    """Return the error of an element that is not installed, with its Debian package if it is known."""
    package = next((one for one, names in _PACKAGES_OF.items() if re.fullmatch(names, name)), None)
    if package == "nvidia-l4t-gstreamer":
        fix = f"it exists on a Jetson only, where `sudo apt install {package}` brings it"
    elif package is not None:
        fix = f"run `sudo apt install {package}`"
    else:
        fix = f"check its name; `gst-inspect-1.0 | grep {name}` finds it if it is installed"
    return ConnectionLost(f"GStreamer has no element {name}; {fix}", "format")


def missing_decoder(name: str) -> ConnectionLost:
    """Return the error of a stream for which no decoder is installed."""
    return ConnectionLost(
        f"GStreamer lacks a part for this stream: {name}; "
        "run `sudo apt install gstreamer1.0-libav gstreamer1.0-plugins-bad`",
        "format",
    )


def parse_error(message: str) -> ConnectionLost:
    """Return the error of a pipeline that does not parse.

    Args:
        message: What `Gst.parse_launch` raised.
    """
    if match := re.search(r'no element "([^"]+)"', message):
        return missing_element(match[1])
    if match := re.search(r'property "([^"]+)" in element "([^"]+)"', message):
        what = "has no property" if message.startswith("no property") else "refuses the value of its property"
        name = re.sub(r"\d+$", "", match[2])
        return ConnectionLost(
            f"the pipeline does not parse: {match[2]} {what} {match[1]}; `gst-inspect-1.0 {name}` lists them",
            "format",
        )
    if match := re.search(r"could not link (\S+) to ([^\s,]+)", message):
        return ConnectionLost(
            f"the pipeline does not parse: {match[1]} cannot be linked to {match[2]}; end it with an element "
            "that gives video, not with a sink",
            "format",
        )
    return ConnectionLost(f"the pipeline does not parse ({_without_addresses(message)}); {_CHECK}", "format")


def bus_error(domain: str, code: int, message: str, details: str, element: str) -> ConnectionLost:
    """Return the error of a pipeline that runs or starts.

    Args:
        domain: Name of the kind of the error, such as gst-resource-error-quark.
        code: Its number within the kind.
        message: Its text for users.
        details: Its text for developers. It is only looked at.
        element: Name of the kind of the element that reports it, such as v4l2src.
    """
    cause = _cause(domain, code, details, element)
    text = _without_addresses(message).rstrip(". ")
    if element == "nvarguscamerasrc":
        fix = "check the ribbon cable, and run `sudo systemctl restart nvargus-daemon`"
    elif _NEGOTIATION in details:
        text = "two elements of the pipeline have no image format in common"
        fix = f"put `videoconvert` between them, or before its appsink; {_CHECK}"
    else:
        fix = _FIXES[cause]
    return ConnectionLost(f"{text} ({element}); {fix}", cause)


def _cause(domain: str, code: int, details: str, element: str) -> Cause:
    device = element in ("nvarguscamerasrc", "v4l2src", "libcamerasrc", "nvv4l2camerasrc")
    if "Permission denied" in details or "Operation not permitted" in details:
        return "permission"
    if domain == "gst-resource-error-quark":
        if code == 15:  # not authorized
            return "authentication"
        if code == 3 and not device:  # not found
            return "not found"
    if _NEGOTIATION in details or domain == "gst-core-error-quark":  # of caps, a missing plug-in and such
        return "format"
    if domain == "gst-stream-error-quark" and code in (4, 5, 6, 11):  # unknown or wrong type, codec, format
        return "format"
    return "device" if device else "connection"


def _without_addresses(text: str) -> str:
    return re.sub(r"\w+://\S*", "the address", text)
