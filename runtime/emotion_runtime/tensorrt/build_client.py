"""The builder of TensorRT engines: `emotion-export trt` in another process."""

import atexit
import importlib.util
import logging
import subprocess
import sys
from collections.abc import Sequence

from emotion_runtime.bundle import Bundle
from emotion_runtime.detectors.graph import Size
from emotion_runtime.errors import EmotionError
from emotion_runtime.names import RequestedPrecision
from emotion_runtime.tensorrt import cache
from emotion_runtime.tensorrt.gpu import Flavor

_log = logging.getLogger(__name__)

_KILLED = 9  # the signal SIGKILL, which Windows does not have

_running: set["subprocess.Popen[str]"] = set()  # for `stop_builders`


def builder_command(arguments: Sequence[str]) -> list[str] | None:
    """Return the command that builds engines into the cache, or None if the builder is not installed."""
    # The runtime never imports the export package; it only starts its command in another process.
    if importlib.util.find_spec("emotion_export") is None:
        return None
    # The detector of a bundle is built for the size of the frames when they come.
    only = [] if "--detector" in arguments else ["--detector", "none"]
    # The builder must write where this process will look, which may be a temporary folder.
    where = ["--cache", str(cache.cache_folder())]
    return [sys.executable, "-m", "emotion_export.cli", "trt", *arguments, *only, *where]


def bundle_arguments(bundle: Bundle, flavor: Flavor, precision: RequestedPrecision) -> list[str]:
    """Return the arguments of `emotion-export trt` that build the encoders of a bundle, and a detector."""
    return ["--bundle", str(bundle.folder), *_options(flavor, precision)]


def detector_arguments(source: str, size: Size, flavor: Flavor, precision: RequestedPrecision) -> list[str]:
    """Return the arguments that build a detector, "face" or an ONNX file, for one size (height, width)."""
    height, width = size
    arguments = ["--detector", source, "--frame-size", f"{width}x{height}"]
    # A frame of the size of the input then stays as it is.
    return [*arguments, "--detector-size", str(max(size)), *_options(flavor, precision)]


def _options(flavor: Flavor, precision: RequestedPrecision) -> list[str]:
    options = ["--flavor", flavor.removeprefix("tensorrt-")]
    return options if precision == "ladder" else [*options, "--precision", precision]


def run_builder(command: Sequence[str]) -> None:
    """Run a builder to its end. It is terminated if this program ends first.

    Raises:
        EmotionError: The builder failed; the message has the last line that it printed.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",  # libraries may print other bytes
        start_new_session=True,  # Ctrl-C reaches only this program, which then terminates the builder
    ) as process:
        _running.add(process)
        atexit.register(stop_builders)
        last = "(no output)"
        try:
            for line in filter(None, map(str.strip, process.stderr or ())):
                last = line
                _log.info("%s", line)  # what is built, and the result of each parity check
            process.wait()
        except BaseException:  # KeyboardInterrupt: do not wait for the builder
            process.terminate()
            raise
        finally:
            _running.discard(process)
    if process.returncode == -_KILLED:  # Linux does so to the largest program
        raise EmotionError(
            f"the builder of the engines was killed ({last}), probably because memory is full: close other "
            "programs, add swap space, or run emotion-export trt while nothing else runs"
        )
    if process.returncode:
        raise EmotionError(
            f"building the engines failed with status {process.returncode}: {last}; or use --backend cpu"
        )


def stop_builders() -> None:
    """Terminate all builders of this process, which is about to end without its usual clean-up."""
    for process in tuple(_running):
        process.terminate()
