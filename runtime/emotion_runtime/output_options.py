"""The options of the command `emotion-runtime` about what leaves a run: outputs, privacy, the web page."""

import argparse
from collections.abc import Callable

LIVE_SEGMENT = 3600.0  # seconds of one file of a camera's recording; it bounds memory and what is lost


def add_outputs(options: argparse.ArgumentParser) -> None:
    """Add the options about files, the broker and the window."""
    add = options.add_argument_group("outputs").add_argument
    _add_files(add)
    _add_ways_to_write(add)
    _add_broker(add)
    add(
        "--show",
        action=argparse.BooleanOptionalAction,
        help="show the annotated video in a window (default: only for a camera, if there is a display)",
    )


def _add_files(add: Callable[..., argparse.Action]) -> None:
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


def _add_ways_to_write(add: Callable[..., argparse.Action]) -> None:
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


def _add_broker(add: Callable[..., argparse.Action]) -> None:
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


def add_privacy(options: argparse.ArgumentParser) -> None:
    """Add the options about what is hidden and what is not published."""
    add = options.add_argument_group("privacy").add_argument
    add(
        "--blur",
        metavar="none|faces|persons",
        help="hide detected faces or whole persons in every image that leaves: recording, photos, window, "
        "page; a recording then has no sound; heads below about 28 pixels of width in 480 x 270, and 40 in "
        "1920 x 1080, are missed, and so are those that are turned away (default: none)",
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
        "label, every 10 seconds; --record and --show need --blur then",
    )


def add_page(options: argparse.ArgumentParser) -> None:
    """Add the options of the web page."""
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
