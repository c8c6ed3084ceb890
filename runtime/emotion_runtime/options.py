"""The options of the command `emotion-runtime`."""

import argparse

from emotion_runtime import __version__
from emotion_runtime.console import OneLineParser
from emotion_runtime.defaults import FROZEN_AFTER, HYSTERESIS, LOST_AFTER, SMOOTHING
from emotion_runtime.output_options import add_outputs, add_page, add_privacy

PROGRAM = "emotion-runtime"

# What the same thing is called in neighbouring programs.
_OTHER_NAMES = {
    "--input": "--source",
    "--video": "--source",
    "--image": "--source",
    "--file": "--source",
    "--webcam": "--camera",
    "--device": "--backend",
    "--output": "--record",
    "--save": "--record",
    "--model": "--bundle",
    "--weights": "--bundle",
    "--conf": "--detector-score",
    "--imgsz": "--detector-size",
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    # An option that is not given is left out of the namespace, so that it does not override the file.
    options = OneLineParser(
        prog=PROGRAM,
        description="Estimate how each person in front of a camera appears to feel.",
        epilog="Example: emotion-runtime --source demo --record demo.mp4 --jsonl demo.jsonl",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    options.other_names, options.file_option = _OTHER_NAMES, "--source"
    _add_sources(options)
    _add_model(options)
    _add_timing(options)
    add_outputs(options)
    add_privacy(options)
    add_page(options)
    add = options.add_argument_group("configuration and help").add_argument
    add(
        "--config",
        metavar="FILE.toml",
        help="read options from a TOML file; options on the command line take precedence",
    )
    add("--print-config", action="store_true", help="print the configuration as a TOML template and exit")
    add(
        "--log-format",
        metavar="text|json",
        help="messages on standard error as text, or as lines of JSON with time, level, source and message "
        "(default: text)",
    )
    add("--doctor", action="store_true", help="check this machine and print a fix for each problem")
    add("--json", action="store_true", help="print the report of --doctor as JSON")
    add("--version", action="version", version=f"%(prog)s {__version__}", help="print the version and exit")
    return options


def _add_sources(options: argparse.ArgumentParser) -> None:
    add = options.add_argument_group("sources").add_argument
    add(
        "--camera",
        type=int,
        action="append",
        metavar="N",
        help="camera number, 0 is the first; may be repeated",
    )
    add(
        "--source",
        action="append",
        metavar="[NAME=]URI",
        help="video or photo, folder or pattern of them, - for standard input, rtsp://, rtsps://, http://, "
        "https://, v4l2:///dev/videoN, csi://N, gst:PIPELINE, or `demo` for the built-in scene; NAME "
        "stands for the source in all results; may be repeated",
    )
    add("--max-frames", type=int, metavar="N", help="stop after N frames, counted over all sources")
    add(
        "--duration",
        type=float,
        metavar="SECONDS",
        help="stop after this many seconds: media time of a file, time by the clock of a camera or stream",
    )
    add("--realtime", action="store_true", help="play files at their own speed and drop frames that are late")
    add(
        "--follow",
        action="store_true",
        help="wait for more at the end of a file that another program still writes",
    )
    add(
        "--lost-after",
        type=float,
        metavar="SECONDS",
        help="a camera or stream that gives no image for this time is lost, and is opened again "
        f"(default: {LOST_AFTER:g})",
    )
    add(
        "--frozen-after",
        type=float,
        metavar="SECONDS",
        help="a camera or stream that repeats one image for this time is frozen: it is not analysed until "
        "the image changes; give more than the time between two key frames; 0 turns this and the detection "
        f"of black images off (default: {FROZEN_AFTER:g})",
    )


def _add_model(options: argparse.ArgumentParser) -> None:
    add = options.add_argument_group("model").add_argument
    add(
        "--bundle",
        metavar="NAME|DIR",
        help="model: name of a shipped bundle, or folder of a bundle (default: nano)",
    )
    add("--head", metavar="NAME", help="head of the bundle that predicts emotions (default: the bundle's)")
    add(
        "--detector",
        metavar="face|FILE.onnx",
        help="person detector: `face`, or a YOLOX or ultralytics ONNX file (default: face)",
    )
    add(
        "--detector-size",
        type=_detector_size,
        metavar="auto|N",
        help="long side in pixels to which the detector resizes a frame: more finds smaller heads, less is "
        "faster (default: auto, which depends on the size of the frame)",
    )
    add(
        "--detector-score",
        type=float,
        metavar="P",
        help="minimum score of a detection, between 0 and 1 (default: 0.3 for faces, 0.25 for ONNX files, "
        "and 0.5 for somebody new)",
    )
    add(
        "--backend",
        metavar="NAME",
        help="what runs the model: auto, cpu, cuda, tensorrt, tensorrt-rtx or openvino (default: auto)",
    )
    add(
        "--precision",
        metavar="NAME",
        help="numeric precision of the encoders: fp32, fp16 or int8 "
        "(default: fp32; with TensorRT, the fastest that passes the parity check)",
    )


def _detect_every(text: str) -> float | str:
    """Return a number; other texts are left as they are for the check of the configuration."""
    try:
        return float(text)
    except ValueError:
        return text


def _detector_size(text: str) -> int | str:
    """Return `auto` or a number; other texts are left as they are for the check of the configuration."""
    return int(text) if text.strip().isdecimal() else text


def _add_timing(options: argparse.ArgumentParser) -> None:
    add = options.add_argument_group("timing").add_argument
    add("--window", type=float, metavar="SECONDS", help="time that a clip spans (default: the bundle's)")
    add(
        "--every",
        type=float,
        metavar="SECONDS",
        help="time between two encodings of a person (default: the window divided by the frames of a clip)",
    )
    add(
        "--detect-every",
        type=_detect_every,
        metavar="auto|SECONDS",
        help="mean time between two detections; boxes in between are predicted, 0 means every frame "
        "(default: auto, which is every frame of a file, and for cameras and streams as often as the machine "
        "can keep up with)",
    )
    add(
        "--smoothing",
        type=float,
        metavar="SECONDS",
        help=f"time constant for smoothing the predictions; 0 turns smoothing off (default: {SMOOTHING})",
    )
    add(
        "--hysteresis",
        type=float,
        metavar="P",
        help="probability margin by which another label must lead before the shown label changes "
        f"(default: {HYSTERESIS})",
    )
