"""GStreamer pipelines as text; nothing here needs GStreamer."""

import re
from fractions import Fraction

from emotion_runtime.errors import EmotionError
from emotion_runtime.sources.uri_options import rate_option, size_option, split_options

# Keeps the newest image only, and hands it out at once.
_SINK = "video/x-raw,format=BGR ! appsink max-buffers=1 drop=true sync=false"
# Jetsons hold images in the memory of the GPU ("NVMM"); nvvidconv copies them, but does not know BGR.
_FROM_GPU = "video/x-raw,format=BGRx ! videoconvert"
_SIZE, _FPS = (1280, 720), 30.0  # of a CSI camera
_FLIPS = (
    "none",
    "counterclockwise",
    "rotate-180",
    "clockwise",
    "horizontal-flip",
    "upper-right-diagonal",
    "vertical-flip",
    "upper-left-diagonal",
)
_CONVERTERS = re.compile(r"\b(?:nvvidconv|nvvideoconvert|videoconvert)\b")
_MAY_BE_ON_GPU = re.compile(r"memory:NVMM|\bnv\w+|\b(?:uri)?decodebin3?\b|\bplaybin3?\b")


def csi_pipeline(uri: str) -> str:
    """Return the pipeline of a camera at the CSI port of a Jetson.

    Args:
        uri: csi://N, where N is the number of the camera, with the options `size` (default 1280x720), `fps`
            (30) and `flip` (a number or name of nvvidconv's flip-method).

    Raises:
        EmotionError: The URI has a mistake.
    """
    address, options = split_options(uri, ("size", "fps", "flip"))
    match = re.fullmatch(r"csi://(\d{1,2})/?", address, re.IGNORECASE | re.ASCII)
    if match is None:
        raise EmotionError(f"source {uri}: expected csi:// and the number of a camera, such as csi://0")
    width, height = size_option(uri, options) or _SIZE
    rate = Fraction(rate_option(uri, options) or _FPS).limit_denominator(1001)
    flip = options.get("flip", "none")
    if flip in map(str, range(len(_FLIPS))):
        flip = _FLIPS[int(flip)]
    if flip not in _FLIPS:
        raise EmotionError(f"source {uri}: there is no flip={flip}; expected {', '.join(_FLIPS)}, or 0 to 7")
    return (
        f"nvarguscamerasrc sensor-id={int(match[1])} ! "
        f"video/x-raw(memory:NVMM),format=NV12,width={width},height={height},"
        f"framerate={rate.numerator}/{rate.denominator} ! "
        f"nvvidconv flip-method={flip} ! {_FROM_GPU} ! {_SINK}"
    )


def complete_pipeline(description: str, *, has_nvvidconv: bool) -> str:
    """Return a user's pipeline with what it lacks to deliver BGR images; one with an `appsink` lacks nothing.

    Args:
        description: The pipeline as for `gst-launch-1.0`.
        has_nvvidconv: The machine has NVIDIA's converter, so that decoders may leave images on the GPU.
    """
    text = description.strip().rstrip("!").rstrip()
    if has_sink(text):
        return text
    parts = _CONVERTERS.split(text)
    on_gpu = "memory:NVMM" in parts[-1] if len(parts) > 1 else bool(_MAY_BE_ON_GPU.search(text))
    converter = f"nvvidconv ! {_FROM_GPU}" if has_nvvidconv and on_gpu else "videoconvert"
    return f"{text} ! {converter} ! {_SINK}"


def has_sink(description: str) -> bool:
    """Return whether a pipeline has an `appsink` of its own."""
    return re.search(r"(?:^|[!\s])appsink(?:\s|$)", description) is not None
