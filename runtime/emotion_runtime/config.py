"""The typed configuration of a run, from the command line and a TOML file."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from emotion_runtime.credentials import HIDDEN, with_secrets, without_passwords
from emotion_runtime.defaults import FROZEN_AFTER, HYSTERESIS, LOST_AFTER, SMOOTHING
from emotion_runtime.errors import EmotionError
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

    def check_runnable(self) -> None:
        """Reject a configuration that cannot be run.

        Raises:
            EmotionError: There is no source, a limit leaves no frames, or options contradict each other.
        """
        if not self.sources:
            raise EmotionError("no source: give --source FILE (or `demo`), or --camera 0")
        if self.max_frames is not None and self.max_frames < 1:
            raise EmotionError(f"--max-frames {self.max_frames}: expected 1 or more; omit it for no limit")
        if self.append and self.overwrite:
            raise EmotionError("--append and --overwrite exclude each other: give one of them")
        self._check_rotation()
        if self.record_segment is not None and not self.record_segment >= 1:
            raise EmotionError(
                f"--record-segment {self.record_segment}: expected seconds, 1 or more; omit it for one file"
            )
        if self.record_segment is not None and not self.record:
            raise EmotionError(
                "--record-segment needs a recording to cut into files: give --record OUT.mp4, or omit it"
            )
        if self.duration is not None and not self.duration > 0:
            raise EmotionError(
                f"--duration {self.duration}: expected seconds, more than 0; omit it for no limit"
            )
        self._check_embeddings()
        self._check_privacy()
        self._check_live_times()
        self._check_mqtt()
        self._check_serve()

    def _check_embeddings(self) -> None:
        """Reject a file of embeddings that would be incomplete.

        Raises:
            EmotionError: Its name is wrong, or files of an earlier run would be left out.
        """
        from emotion_runtime.sinks.embeddings import check_embeddings_name  # noqa: PLC0415 - as above
        from emotion_runtime.sinks.jsonl_folder import is_jsonl_folder  # noqa: PLC0415 - as above

        if self.embeddings is None:
            return
        check_embeddings_name(self.embeddings)
        if is_jsonl_folder(self.jsonl) and not self.overwrite:
            raise EmotionError(
                f"--jsonl {self.jsonl} is a folder, and files that were finished earlier are left out, which "
                "--embeddings cannot do: give --overwrite, or --jsonl FILE"
            )

    def _check_privacy(self) -> None:
        """Reject options about privacy that have a mistake, or that another output would undo.

        Raises:
            EmotionError: There is such an option.
        """
        if self.zone:
            from emotion_runtime.privacy.zones import parse_zone  # noqa: PLC0415 - needs OpenCV

            for zone in self.zone:
                parse_zone(zone)
        if self.aggregate is not None and self.aggregate < 2:
            raise EmotionError(f"--aggregate {self.aggregate}: expected a number of people, 2 or more")
        if self.embeddings and (self.no_ids or self.aggregate is not None):
            raise EmotionError(
                "--embeddings tells people apart, which --no-ids and --aggregate prevent: omit one of them"
            )
        if self.aggregate is not None and (self.csv or self.report):
            flag = "--csv" if self.csv else "--report"
            raise EmotionError(f"{flag} tells people apart, which --aggregate prevents: omit one of them")
        if self.aggregate is not None and self.on_change:
            raise EmotionError("--on-change is about lines of frames, and --aggregate K writes none: omit it")

    def _check_live_times(self) -> None:
        """Reject times of cameras and streams that make no sense.

        Raises:
            EmotionError: One of them is too short or too long.
        """
        if not 0.5 <= self.lost_after <= 3600:
            raise EmotionError(f"--lost-after {self.lost_after}: expected seconds, from 0.5 to 3600")
        if not (self.frozen_after == 0 or 1 <= self.frozen_after <= 86400):
            raise EmotionError(
                f"--frozen-after {self.frozen_after}: expected seconds, from 1 to 86400, or 0 for never"
            )

    def _check_serve(self) -> None:
        """Reject options about the web page that have no effect.

        Raises:
            EmotionError: There is no page, or its address is wrong.
        """
        from emotion_runtime.web.place import parse_place  # noqa: PLC0415 - keeps `--help` fast

        if self.serve is not None:
            parse_place(self.serve)
            if self.aggregate is not None:
                raise EmotionError(
                    "--serve shows single people, which --aggregate excludes: omit one of them"
                )
            return
        names = ("token_file", "serve_name", "serve_cameras", "notice_who", "notice_why", "notice_kept")
        for name in (*names, "notice_contact"):
            if getattr(self, name):
                flag = f"--{name.replace('_', '-')}"
                raise EmotionError(f"{flag} is about the web page: give --serve HOST:PORT, too")

    @property
    def broker(self) -> "BrokerAddress | None":
        """The MQTT broker; None: there is none.

        Raises:
            EmotionError: The address has a mistake, or a password is missing.
        """
        from emotion_runtime.sinks.mqtt_options import parse_broker  # noqa: PLC0415 - keeps `--help` fast

        return None if self.mqtt is None else parse_broker(self.mqtt)

    def _check_mqtt(self) -> None:
        """Reject options about MQTT that have no effect, and wrong values.

        Raises:
            EmotionError: There is no broker, or an option has a wrong value.
        """
        address = self.broker
        given = {
            "--mqtt-ca": self.mqtt_ca is not None,
            "--mqtt-every": self.mqtt_every is not None,
            "--mqtt-discovery": self.mqtt_discovery is not None,
        }
        if address is None and any(given.values()):
            flag = next(flag for flag, is_given in given.items() if is_given)
            raise EmotionError(f"{flag} needs a broker: give --mqtt URL, too")
        if address is not None and self.mqtt_ca is not None and not address.tls:
            raise EmotionError("--mqtt-ca is about encrypted connections: give --mqtt mqtts://...")
        if self.mqtt_every is not None and not 0.5 <= self.mqtt_every <= 3600:
            raise EmotionError(f"--mqtt-every {self.mqtt_every}: expected seconds, from 0.5 to 3600")

    @property
    def rotation(self) -> "Rotation | None":
        """When the files of JSON lines and of the table begin anew; None: never."""
        from emotion_runtime.sinks.rotation import parse_rotation  # noqa: PLC0415 - keeps `--help` fast

        return None if self.rotate is None else parse_rotation(self.rotate, self.rotate_keep)

    def _check_rotation(self) -> None:
        """Reject options about JSON lines and tables that have no effect.

        Raises:
            EmotionError: There is nothing to rotate or to write, or an option has a wrong value.
        """
        if self.jsonl == self.csv == "-":
            raise EmotionError(
                "--jsonl - and --csv - would be mixed on standard output: give one of them a file"
            )
        files = {self.jsonl or "-", self.csv or "-"} - {"-"}
        if self.rotate is not None and self.rotation is not None and not files:
            raise EmotionError(
                f"--rotate {self.rotate} needs a file to rotate: give --jsonl FILE or --csv FILE"
            )
        if self.rotate_keep is not None and self.rotate is None:
            raise EmotionError("--rotate-keep needs --rotate SIZE or --rotate daily")
        if self.on_change and not self.jsonl:
            raise EmotionError("--on-change is about JSON lines: give --jsonl PATH, too")


def make_config(file: Mapping[str, Any], flags: Mapping[str, Any]) -> RunConfig:
    """Combine the values of a configuration file with the given flags, which take precedence.

    Sources given as flags replace all sources of the file: a user of --source does not want the file's as
    well.

    Args:
        file: Values by key of the file.
        flags: Values by key of the flags that were given.

    Raises:
        EmotionError: A value has the wrong type; one line for each such value.
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
                given[field.name] = _checked(field, given[field.name], from_file=field.name not in flags)
            except EmotionError as error:
                mistakes.append(str(error))
    if mistakes:
        raise EmotionError("\n".join(mistakes))
    return RunConfig(**given)


def _checked(field: msgspec.structs.FieldInfo, value: Any, *, from_file: bool) -> Any:
    try:
        return msgspec.convert(value, field.type)
    except msgspec.ValidationError as error:
        kind = field.type if field.type in _EXPECTED else get_args(field.type)[0]  # of an optional value
        flag = f"--{field.name.replace('_', '-')} {value}"
        origin = f"--config: {field.name} = {value!r}" if from_file else flag
        raise EmotionError(f"{without_passwords(origin)}: expected {_EXPECTED[kind]}") from error


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
