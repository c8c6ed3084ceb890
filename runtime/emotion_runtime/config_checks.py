"""Checks of the configuration of a run: options that contradict each other, or that have no effect."""

from pathlib import Path

from emotion_runtime.config import RunConfig
from emotion_runtime.errors import EmotionError

PAGES = (".html", ".htm")  # how the file of a report ends

# Modules that know more about an option are imported where they are needed: `--help` and typos stay fast.


def check_runnable(config: RunConfig) -> None:
    """Reject a configuration that cannot be run.

    Raises:
        EmotionError: There is no source, a limit leaves no frames, or options contradict each other.
    """
    if not config.sources:
        raise EmotionError("no source: give --source FILE (or `demo`), or --camera 0")
    if config.max_frames is not None and config.max_frames < 1:
        raise EmotionError(f"--max-frames {config.max_frames}: expected 1 or more; omit it for no limit")
    if config.append and config.overwrite:
        raise EmotionError("--append and --overwrite exclude each other: give one of them")
    _check_files(config)
    if config.report and Path(config.report).suffix.lower() not in PAGES:
        raise EmotionError(f"--report {config.report}: expected a page that ends with .html")
    _check_rotation(config)
    if config.record_segment is not None and not config.record_segment >= 1:
        raise EmotionError(
            f"--record-segment {config.record_segment:g}: expected seconds, 1 or more; omit it for one file"
        )
    if config.record_segment is not None and not config.record:
        raise EmotionError(
            "--record-segment needs a recording to cut into files: give --record OUT.mp4, or omit it"
        )
    if config.duration is not None and not config.duration > 0:
        raise EmotionError(
            f"--duration {config.duration:g}: expected seconds, more than 0; omit it for no limit"
        )
    _check_embeddings(config)
    _check_privacy(config)
    _check_live_times(config)
    _check_mqtt(config)
    _check_serve(config)


def _check_files(config: RunConfig) -> None:
    """Reject files of which only the folder or the ending is given, as by an empty variable of a shell.

    Raises:
        EmotionError: There is such a file.
    """
    from emotion_runtime.sinks.outputs import VIDEO_SUFFIXES  # noqa: PLC0415 - keeps `--help` fast

    for flag, path in {"csv": config.csv, "report": config.report, "embeddings": config.embeddings}.items():
        if path and path.endswith("/"):
            raise EmotionError(f"--{flag} {path}: expected the name of a file, not of a folder")
    if config.record and Path(config.record).name.lower() in VIDEO_SUFFIXES and config.record[-1] != "/":
        raise EmotionError(
            f"--record {config.record}: there is no name before the ending; give one, such as OUT.mp4"
        )


def _check_rotation(config: RunConfig) -> None:
    """Reject options about JSON lines and tables that have no effect.

    Raises:
        EmotionError: There is nothing to rotate or to write, or an option has a wrong value.
    """
    if config.jsonl == config.csv == "-":
        raise EmotionError("--jsonl - and --csv - would be mixed on standard output: give one of them a file")
    files = {config.jsonl or "-", config.csv or "-"} - {"-"}
    if config.rotate is not None and config.rotation is not None and not files:
        raise EmotionError(
            f"--rotate {config.rotate} needs a file to rotate: give --jsonl FILE or --csv FILE"
        )
    if config.rotate_keep is not None and config.rotate is None:
        raise EmotionError("--rotate-keep needs --rotate SIZE or --rotate daily")
    if config.on_change and not config.jsonl:
        raise EmotionError("--on-change is about JSON lines: give --jsonl PATH, too")


def _check_embeddings(config: RunConfig) -> None:
    """Reject a file of embeddings that would be incomplete.

    Raises:
        EmotionError: Its name is wrong, or files of an earlier run would be left out.
    """
    from emotion_runtime.sinks.embeddings import check_embeddings_name  # noqa: PLC0415 - as above
    from emotion_runtime.sinks.jsonl_folder import is_jsonl_folder  # noqa: PLC0415 - as above

    if config.embeddings is None:
        return
    check_embeddings_name(config.embeddings)
    if is_jsonl_folder(config.jsonl) and not config.overwrite:
        raise EmotionError(
            f"--jsonl {config.jsonl} is a folder, and files that were finished earlier are left out, which "
            "--embeddings cannot do: give --overwrite, or --jsonl FILE"
        )


def _check_privacy(config: RunConfig) -> None:
    """Reject options about privacy that have a mistake, or that another output would undo.

    Raises:
        EmotionError: There is such an option.
    """
    if config.zone:
        from emotion_runtime.privacy.zones import parse_zone  # noqa: PLC0415 - needs OpenCV

        for zone in config.zone:
            parse_zone(zone)
    if config.aggregate is not None and config.aggregate < 2:
        raise EmotionError(f"--aggregate {config.aggregate}: expected a number of people, 2 or more")
    if config.embeddings and (config.no_ids or config.aggregate is not None):
        raise EmotionError(
            "--embeddings tells people apart, which --no-ids and --aggregate prevent: omit one of them"
        )
    if config.aggregate is not None and (config.csv or config.report):
        flag = "--csv" if config.csv else "--report"
        raise EmotionError(f"{flag} tells people apart, which --aggregate prevents: omit one of them")
    if config.aggregate is not None and config.blur == "none" and (config.record or config.show):
        flag = "--record" if config.record else "--show"
        raise EmotionError(
            f"{flag} shows people, which --aggregate prevents: give --blur faces or --blur persons, too, or "
            f"omit {flag}"
        )
    if config.aggregate is not None and config.on_change:
        raise EmotionError("--on-change is about lines of frames, and --aggregate K writes none: omit it")


def _check_live_times(config: RunConfig) -> None:
    """Reject times of cameras and streams that make no sense.

    Raises:
        EmotionError: One of them is too short or too long.
    """
    if not 0.5 <= config.lost_after <= 3600:
        raise EmotionError(f"--lost-after {config.lost_after:g}: expected seconds, from 0.5 to 3600")
    if not (config.frozen_after == 0 or 1 <= config.frozen_after <= 86400):
        raise EmotionError(
            f"--frozen-after {config.frozen_after:g}: expected seconds, from 1 to 86400, or 0 for never"
        )


def _check_mqtt(config: RunConfig) -> None:
    """Reject options about MQTT that have no effect, and wrong values.

    Raises:
        EmotionError: There is no broker, or an option has a wrong value.
    """
    address = config.broker
    given = {
        "--mqtt-ca": config.mqtt_ca is not None,
        "--mqtt-every": config.mqtt_every is not None,
        "--mqtt-discovery" if config.mqtt_discovery else "--no-mqtt-discovery": (
            config.mqtt_discovery is not None
        ),
    }
    if address is None and any(given.values()):
        flag = next(flag for flag, is_given in given.items() if is_given)
        raise EmotionError(f"{flag} needs a broker: give --mqtt URL, too")
    if address is not None and config.mqtt_ca is not None and not address.tls:
        raise EmotionError("--mqtt-ca is about encrypted connections: give --mqtt mqtts://...")
    if config.mqtt_every is not None and not 0.5 <= config.mqtt_every <= 3600:
        raise EmotionError(f"--mqtt-every {config.mqtt_every:g}: expected seconds, from 0.5 to 3600")


def _check_serve(config: RunConfig) -> None:
    """Reject options about the web page that have no effect, or that clients could undo.

    Raises:
        EmotionError: There is no page, its address is wrong, or zones would not hold for cameras of clients.
    """
    from emotion_runtime.web.place import check_host_name, parse_place  # noqa: PLC0415 - as above

    if config.serve is not None:
        parse_place(config.serve)
        for name in config.serve_name:
            check_host_name(name)
        if config.serve_cameras and any("=" in zone for zone in config.zone):
            raise EmotionError(
                "--serve-cameras lets clients open a camera once more under another name, for which --zone "
                "SOURCE=... does not hold: give zones without SOURCE=, which hold for all sources, or omit "
                "--serve-cameras"
            )
        return
    names = ("token_file", "serve_name", "serve_cameras", "notice_who", "notice_why", "notice_kept")
    for name in (*names, "notice_contact"):
        if getattr(config, name):
            flag = f"--{name.replace('_', '-')}"
            raise EmotionError(f"{flag} is about the web page: give --serve HOST:PORT, too")
