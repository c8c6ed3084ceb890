"""The typed configuration of a run, from the command line and a TOML file."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from emotion_runtime.credentials import HIDDEN, with_secrets, without_passwords
from emotion_runtime.defaults import FROZEN_AFTER, HYSTERESIS, LOST_AFTER, SMOOTHING
from emotion_runtime.errors import EmotionError, about
from emotion_runtime.files import with_home
from emotion_runtime.names import Blur, DetectEvery, DetectorSize, LogFormat, Precision

if TYPE_CHECKING:
    from emotion_runtime.sinks.mqtt_options import BrokerAddress
    from emotion_runtime.sinks.rotation import Rotation

# What a value of each type is called in an error message.
_EXPECTED: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    list[int]: "camera numbers",
    list[str]: "texts in quotes",
    DetectorSize: "`auto` or a whole number of pixels",
    DetectEvery: "`auto` or a number",
    Precision: f"one of {', '.join(get_args(Precision))}",
    Blur: f"one of {', '.join(get_args(Blur))}",
    LogFormat: f"one of {', '.join(get_args(LogFormat))}",
}


# Where frames come from and where results go: these have no influence on the results of a frame.
_PLACES = {
    "camera",
    "source",
    "jsonl",
    "csv",
    "report",
    "record",
    "record_segment",
    "embeddings",
    "show",
    "blur",
    "append",
    "overwrite",
    "wall_clock",
    "rotate",
    "rotate_keep",
    "log_format",
    "mqtt",
    "mqtt_ca",
    "mqtt_every",
    "mqtt_discovery",
    "serve",
    "token_file",
    "serve_name",
    "serve_cameras",
    "notice_who",
    "notice_why",
    "notice_kept",
    "notice_contact",
}


# Options that are paths, or may be one.
_FILES = ("bundle", "detector", "jsonl", "csv", "report", "record", "embeddings", "mqtt_ca", "token_file")


class RunConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All options of `emotion-runtime`, named as in a TOML file; see `emotion-runtime --help`.

    None means "use the default". Times are in seconds. Bundle, backend and detector names are validated where
    they are opened; only run-level options are checked here.
    """

    camera: list[int] = []
    source: list[str] = []
    bundle: str = "nano"
    detector: str = "face"
    detector_size: DetectorSize = "auto"
    detector_score: float | None = None
    backend: str = "auto"
    precision: Precision | None = None
    head: str | None = None
    window: float | None = None
    every: float | None = None
    detect_every: DetectEvery = "auto"
    smoothing: float = SMOOTHING
    hysteresis: float = HYSTERESIS
    jsonl: str | None = None
    csv: str | None = None
    report: str | None = None
    record: str | None = None
    record_segment: float | None = None
    embeddings: str | None = None
    append: bool = False
    overwrite: bool = False
    wall_clock: bool = False
    rotate: str | None = None
    rotate_keep: int | None = None
    on_change: bool = False
    show: bool | None = None
    blur: Blur = "none"
    zone: list[str] = []
    no_ids: bool = False
    aggregate: int | None = None
    max_frames: int | None = None
    duration: float | None = None
    realtime: bool = False
    follow: bool = False
    lost_after: float = LOST_AFTER
    frozen_after: float = FROZEN_AFTER
    log_format: LogFormat = "text"
    mqtt: str | None = None
    mqtt_ca: str | None = None
    mqtt_every: float | None = None
    mqtt_discovery: bool | None = None
    serve: str | None = None
    token_file: str | None = None
    serve_name: list[str] = []
    serve_cameras: bool = False
    notice_who: str | None = None
    notice_why: str | None = None
    notice_kept: str | None = None
    notice_contact: str | None = None

    @property
    def sources(self) -> list[str | int]:
        """All sources, cameras first. They may hold passwords: never print them.

        Raises:
            EmotionError: A password is missing.
        """
        with about("source"):
            return [*self.camera, *map(with_secrets, self.source)]

    @property
    def changed(self) -> dict[str, Any]:
        """The options that differ from their defaults, without sources and outputs.

        They are written into results. Addresses of sources may hold passwords, and paths differ between runs
        that give the same results.
        """
        fields = msgspec.structs.fields(RunConfig)
        given = {field.name: getattr(self, field.name) for field in fields if field.name not in _PLACES}
        return {name: value for name, value in given.items() if value != getattr(RunConfig(), name)}

    @property
    def broker(self) -> "BrokerAddress | None":
        """The MQTT broker; None: there is none.

        Raises:
            EmotionError: The address has a mistake, or a password is missing.
        """
        from emotion_runtime.sinks.mqtt_options import parse_broker  # noqa: PLC0415 - keeps `--help` fast

        with about("mqtt"):
            return None if self.mqtt is None else parse_broker(self.mqtt)

    @property
    def rotation(self) -> "Rotation | None":
        """When the files of JSON lines and of the table begin anew; None: never."""
        from emotion_runtime.sinks.rotation import parse_rotation  # noqa: PLC0415 - keeps `--help` fast

        return None if self.rotate is None else parse_rotation(self.rotate, self.rotate_keep)


def make_config(file: Mapping[str, Any], flags: Mapping[str, Any], path: str = "") -> RunConfig:
    """Combine the values of a configuration file with the given flags, which take precedence.

    Sources given as flags replace all sources of the file: a user of --source does not want the file's as
    well.

    Args:
        file: Values by key of the file.
        flags: Values by key of the flags that were given.
        path: The file, for messages.

    Raises:
        EmotionError: A value has the wrong type, one line for each such value; or a path begins with `~/`,
            and this user has no home folder.
    """
    given = dict(file)
    if "camera" in flags or "source" in flags:
        given = {key: value for key, value in given.items() if key not in ("camera", "source")}
    given |= flags
    for key in ("camera", "source", "zone"):  # users write `camera = 0`
        if key in given and not isinstance(given[key], list):
            given[key] = [given[key]]
    mistakes = []
    for field in msgspec.structs.fields(RunConfig):
        if field.name in given:
            try:
                given[field.name] = _checked(field, given[field.name])
            except EmotionError as error:
                origin = _origin(field.name, file, flags, path)
                mistakes.append(f"{without_passwords(origin)}{error}")
    if mistakes:
        raise EmotionError("\n".join(mistakes))
    return RunConfig(**given | {name: with_home(given[name]) for name in _FILES if name in given})


def _checked(field: msgspec.structs.FieldInfo, value: Any) -> Any:
    if value == "":
        raise EmotionError(" is empty: give a value, or omit it for the default")
    try:
        return msgspec.convert(value, field.type)
    except msgspec.ValidationError as error:
        kind = field.type if field.type in _EXPECTED else get_args(field.type)[0]  # of an optional value
        raise EmotionError(f": expected {_EXPECTED[kind]}") from error


def _origin(key: str, file: Mapping[str, Any], flags: Mapping[str, Any], path: str) -> str:
    """Return where a wrong value is, and the value as the user wrote it, unless it is empty."""
    value = flags.get(key, file.get(key))
    if key in flags:
        return f"--{key.replace('_', '-')}" + (f" {value}" if value else "")
    # Values look the same in TOML and in JSON, except dates.
    text = "" if value == "" else f" = {json.dumps(value, ensure_ascii=False, default=str)}"
    return f"--config {path}: {key}{text}"


def as_toml(config: RunConfig, comments: Mapping[str, str]) -> str:
    """Return a complete configuration file for `--config`, in which passwords are hidden.

    Args:
        config: The values. A key that is None is written as a comment, since TOML has no such value.
        comments: An explanation for each key.
    """
    lines = []
    hidden = msgspec.structs.replace(
        config,
        source=[without_passwords(uri) for uri in config.source],
        mqtt=None if config.mqtt is None else without_passwords(config.mqtt),
    )
    if hidden != config:
        lines.append(f"# Passwords are shown as {HIDDEN}.\n")
    for key, value in msgspec.structs.asdict(hidden).items():
        lines.append(f"# {comments[key]}\n")
        # Strings, numbers, booleans and lists of them look the same in TOML and in JSON.
        lines.append(
            f"# {key} =\n" if value is None else f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        )
    return "".join(lines)
