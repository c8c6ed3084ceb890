"""Switch off the usage reports of the libraries that this project uses.

ONNX Runtime (from 1.29 on, on Linux too), OpenVINO, ultralytics, Ray and huggingface_hub report to their
makers unless told otherwise. They read an environment variable, most of them at their first import, except
OpenVINO, whose reports come from a separate package that can be hidden. A variable that the user has set is
kept.
"""

import os
import sys

OPT_OUTS = {
    "ORT_DISABLE_TELEMETRY": "1",
    "YOLO_OFFLINE": "true",  # also stops ultralytics' connectivity checks and its installing of packages
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def opt_out() -> None:
    """Set the variables for this process and its children; call it before the first import of a library."""
    for variable, value in OPT_OUTS.items():
        os.environ.setdefault(variable, value)


def hide_openvino_telemetry() -> None:
    """Make `import openvino` find its own empty stand-in instead of the package openvino_telemetry.

    The package sends an event and writes a persistent client id into the home folder at the import.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes an import fail
