"""Switch off the usage reports of the libraries that this project uses.

ONNX Runtime (since 1.29 also on Linux), OpenVINO, ultralytics, Ray and huggingface_hub send reports to their
makers by default. An environment variable switches them off; most libraries read it at their first import.
OpenVINO is the exception: its reports come from a separate package, which can be hidden. A variable that the
user has set is kept.
"""

import os
import sys

OPT_OUTS = {
    "ORT_DISABLE_TELEMETRY": "1",
    "YOLO_OFFLINE": "true",  # also stops ultralytics from checking the connection and installing packages
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def opt_out() -> None:
    """Set the variables for this process and its children; call it before the first import of a library."""
    for variable, value in OPT_OUTS.items():
        os.environ.setdefault(variable, value)


def hide_openvino_telemetry() -> None:
    """Make `import openvino` use its own empty stub instead of the package openvino_telemetry.

    When imported, that package sends an event and writes a persistent client id into the home folder.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes an import fail
