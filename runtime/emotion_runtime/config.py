"""The typed configuration of a run: what the command line and a TOML file can say, checked in one place."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from emotion_runtime.defaults import HYSTERESIS, SMOOTHING
from emotion_runtime.errors import EmotionError
from emotion_runtime.names import Precision

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every flag of `emotion-runtime`, by the name it has in a TOML file; None: left to the program.

    Times are in seconds. What a bundle, backend or detector may be is their own rooms' business; here is
    checked what only concerns the run.
    """

    camera: list[int] = []
    source: list[str] = []
    bundle: str = "nano"
    detector: str = "face"
    backend: str = "auto"
    precision: Precision | None = None
    head: str | None = None
    window: float | None = None
    every: float | None = None
    smoothing: float = SMOOTHING
    hysteresis: float = HYSTERESIS
    jsonl: str | None = None
    record: str | None = None
    show: bool | None = None
    max_frames: int | None = None
    duration: float | None = None
    realtime: bool = False

    @property
    def sources(self) -> list[str | int]:
        """Everything to be looked at, cameras first."""
        return [*self.camera, *self.source]

    def check_runnable(self) -> None:
        """Refuse what cannot be run.

        Raises:
            EmotionError: no source, a source twice, or a limit that lets nothing through.

        """
        sources = self.sources
        if not sources:
            raise EmotionError("nothing to look at: give --source FILE (or `demo`) or --camera 0")
        if len({str(source) for source in sources}) < len(sources):
            raise EmotionError(f"a source is given twice ({', '.join(map(str, sources))}): give each once")
        if self.max_frames is not None and self.max_frames < 1:
            raise EmotionError(
                f"--max-frames {self.max_frames}: expected 1 or more; leave it out for no limit"
            )
        if self.duration is not None and not self.duration > 0:
            raise EmotionError(
                f"--duration {self.duration}: expected seconds, more than 0; leave it out for no limit"
            )


def read_toml(path: str) -> dict[str, Any]:
    """The keys and values of a configuration file.

    Raises:
        EmotionError: no such file, no TOML, or a key that no flag has.

    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise EmotionError(f"--config {path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EmotionError(
            f"--config {path}: no valid TOML ({error}); see emotion-runtime --print-config"
        ) from error
    known = RunConfig.__struct_fields__
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise EmotionError(f"--config {path}: unknown key {', '.join(unknown)}; known are {', '.join(known)}")
    return table


def make_config(file: Mapping[str, Any], flags: Mapping[str, Any]) -> RunConfig:
    """The configuration from a file's values and the flags given, which win.

    Sources given as flags replace those of the file altogether: nobody who says --source wants a second one.

    Raises:
        EmotionError: a value of the wrong type.

    """
    kept = dict(file)
    if "camera" in flags or "source" in flags:
        kept = {key: value for key, value in kept.items() if key not in ("camera", "source")}
    merged = {**kept, **flags}
    for key in ("camera", "source"):  # `camera = 0` is what people write
        if key in merged and not isinstance(merged[key], list):
            merged[key] = [merged[key]]
    try:
        return msgspec.convert(merged, RunConfig)
    except msgspec.ValidationError as error:
        raise EmotionError(f"configuration: {error}; see emotion-runtime --print-config") from error


def as_toml(config: RunConfig) -> str:
    """The configuration as TOML that `--config` takes; TOML has no None, so those are left out."""
    # Strings, numbers, booleans and lists of them are written in TOML as in JSON.
    return "".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        for key, value in msgspec.structs.asdict(config).items()
        if value is not None
    )
