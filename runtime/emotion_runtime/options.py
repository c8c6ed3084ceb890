"""The options of the command `emotion-runtime`."""

import argparse

from emotion_runtime import __version__
from emotion_runtime.console import OneLineParser
from emotion_runtime.defaults import FROZEN_AFTER, HYSTERESIS, LOST_AFTER, SMOOTHING

PROGRAM = "emotion-runtime"
LIVE_SEGMENT = 3600.0  # seconds of one file of a camera's recording; it bounds memory and what is lost

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
    _add_outputs(options)
    _add_privacy(options)
    _add_page(options)
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
        help="minimum score of a detection, between 0 and 1 (default: 0.3 for faces, 0.25 for ONNX files)",
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
        help="longest time between two detections; boxes in between are predicted, 0 means every frame "
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


def _add_outputs(options: argparse.ArgumentParser) -> None:
    add = options.add_argument_group("outputs").add_argument
    add(
        "--jsonl",
        metavar="PATH",
        help="write one line of JSON per frame to this file; a folder gets one file per source, - is "
        "standard output",
    )
    add(
        "--csv",
        metavar="PATH",
        help="write a table with one row per person and frame to this file, and beside it, in "
        "PATH-summary.csv, one row per person; - is standard output, without a summary",
    )
    add(
        "--report",
        metavar="OUT.html",
        help="write one page about the run to this file when it ends, with timelines and shares of labels",
    )
    add(
        "--record",
        metavar="OUT.mp4|FOLDER",
        help="write the annotated video to this file, or annotated copies of all sources to this folder",
    )
    add(
        "--record-segment",
        type=float,
        metavar="SECONDS",
        help="begin a new file of the recording after this time: OUT-0001.mp4, OUT-0002.mp4 ... "
        f"(default: {LIVE_SEGMENT:g} for a camera; one file otherwise)",
    )
    add(
        "--embeddings",
        metavar="OUT.npz|OUT.parquet",
        help="write the embeddings of all persons, with source, time, id, label and probabilities, to this "
        "file when the run ends; Parquet needs pyarrow",
    )
    add(
        "--append",
        action="store_true",
        help="keep existing output files: add lines to them, record under the next free number "
        "(default for a camera)",
    )
    add("--overwrite", action="store_true", help="replace existing output files (default for files)")
    add(
        "--rotate",
        metavar="SIZE|daily",
        help="begin a new file of JSON lines, and of the table, at this size (such as 100MB) or with each "
        "day in UTC; earlier parts are called PATH-0001.jsonl ... or PATH-2026-11-27.jsonl",
    )
    add("--rotate-keep", type=int, metavar="N", help="keep only the newest N earlier parts (default: all)")
    add(
        "--on-change",
        action="store_true",
        help="write a line of JSON only when people, their states or their labels have changed, and once a "
        "minute",
    )
    add("--wall-clock", action="store_true", help="write the present time into the lines of files, too")
    add(
        "--mqtt",
        metavar="URL",
        help="publish events and states to an MQTT broker, mqtts://USER:${PASSWORD}@HOST:PORT/PREFIX, where "
        "PASSWORD is an environment variable and PREFIX (default: emotion) begins all topics",
    )
    add("--mqtt-ca", metavar="FILE.pem", help="certificate of the authority that signed the broker's")
    add(
        "--mqtt-every",
        type=float,
        metavar="SECONDS",
        help="publish after this time even if nothing has changed (default: 10)",
    )
    add(
        "--mqtt-discovery",
        action=argparse.BooleanOptionalAction,
        help="announce cameras to Home Assistant (default: with --mqtt)",
    )
    add(
        "--show",
        action=argparse.BooleanOptionalAction,
        help="show the annotated video in a window (default: only for a camera, if there is a display)",
    )


def _add_privacy(options: argparse.ArgumentParser) -> None:
    add = options.add_argument_group("privacy").add_argument
    add(
        "--blur",
        metavar="none|faces|persons",
        help="hide faces or whole persons in every image that leaves: recording, photos, window; a recording "
        "then has no sound (default: none)",
    )
    add(
        "--zone",
        action="append",
        metavar="[SOURCE=]X1,Y1,X2,Y2",
        help="part of the image that is neither analysed nor shown: a box, or the corners of a polygon, as "
        "fractions of width and height from 0 to 1; of one source, or of all; may be repeated",
    )
    add(
        "--no-ids",
        action="store_true",
        help="publish no ids of people: neither in lines nor in images nor at the end of the run",
    )
    add(
        "--aggregate",
        type=int,
        metavar="K",
        help="publish nothing about single people, only how many of at least K people in view have which "
        "label, every 10 seconds",
    )


def _add_page(options: argparse.ArgumentParser) -> None:
    add = options.add_argument_group("web page").add_argument
    add(
        "--serve",
        metavar="HOST:PORT",
        help="serve a page with live images and results, and an interface for programs, such as at "
        "127.0.0.1:8080; any address that other machines can reach needs a token, which is printed once",
    )
    add(
        "--token-file",
        metavar="FILE",
        help="read the token of the page from this file; then it is needed at 127.0.0.1, too",
    )
    add(
        "--serve-name",
        action="append",
        metavar="NAME[:PORT]",
        help="further host name under which the page is reached, such as that of a reverse proxy; may be "
        "repeated",
    )
    add(
        "--serve-cameras",
        action="store_true",
        help="let clients of the page add network cameras, and remove cameras",
    )
    add("--notice-who", metavar="TEXT", help="who is responsible, for the printable notice at /notice")
    add("--notice-why", metavar="TEXT", help="the purpose, for the printable notice")
    add(
        "--notice-kept",
        metavar="TEXT",
        help="what is stored and for how long, for the printable notice (default: what this run writes)",
    )
    add("--notice-contact", metavar="TEXT", help="whom people can ask, for the printable notice")
