"""Read configurations from TOML files, find the shipped ones, and compare two of them."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

import emotion_train
from emotion_runtime.errors import EmotionError
from emotion_train.model import PRESETS, ModelConfig
from emotion_train.training.config import PretrainConfig

# Settings that may be edited before a run is resumed: how fast it learns and how it is computed, but not the
# order of its data or which parameters are trained.
FREE = frozenset(
    {
        "lr",
        "vector_lr",
        "head_lr",
        "head_vector_lr",
        "scale_lr",
        "stem_lr",
        "weight_decay",
        "steps",
        "epochs",
        "warmup",
        "warmup_start",
        "final_lr",
        "epoch_steps",
        "clip_norm",
        "precision",
        "tf32",
        "accumulate",
        "recompute",
        "compile",
        "workers",
        "save_every",
        "keep_last",
        "trackers",
        "stall_limit",
        "skip_limit",
        "evaluate_every",
        "probe",
    }
)


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any], inside: str = "") -> list[str]:
    """Return the names of settings that differ between two configurations, except the `FREE` ones.

    Args:
        before: Plain values of the configuration of a checkpoint.
        now: Plain values of the present one.
        inside: Prefix of the names, of a section.
    """
    changed = []
    for name in before.keys() & now.keys() - FREE:
        old, new = before[name], now[name]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changed += changed_settings(old, new, f"{inside}{name}.")
        elif old != new and not any(
            isinstance(value, Mapping) for value in (old, new)
        ):  # of a stage that is done
            changed.append(inside + name)
    return sorted(changed)


def shipped_configs() -> dict[str, Path]:
    """Return the configurations that come with the package, by name."""
    package = Path(emotion_train.__file__).parent
    # In a wheel they are part of the package, in a checkout they lie beside it.
    folders = (package / "configs", package.parent / "configs")
    return dict(sorted((path.stem, path) for folder in folders for path in folder.glob("*.toml")))


def find_config(name: str) -> Path:
    """Return the file of a configuration.

    Args:
        name: Path of a TOML file, or the name of a shipped configuration. A file wins.
    """
    shipped = shipped_configs()
    if Path(name).is_file() or name not in shipped:
        return Path(name)
    return shipped[name]


def load_config(path: Path) -> PretrainConfig:
    """Read and check a TOML file.

    Raises:
        EmotionError: The file is missing or not TOML, a key is unknown, or a value is of the wrong type
            or out of range.
    """
    try:
        return msgspec.toml.decode(path.read_text(encoding="utf-8-sig"), type=PretrainConfig)
    except OSError as error:
        raise EmotionError(
            f"config {path}: {error.strerror}; give the path of a TOML file, or one of "
            f"{', '.join(shipped_configs())}"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # a ValidationError is a DecodeError
        examples = shipped_configs()["smoke"].parent
        raise EmotionError(
            f"config {path}: {error}{_expected(str(error), PretrainConfig)}; compare it with the files in "
            f"{examples}"
        ) from error


def model_config(
    preset: str, changes: Mapping[str, Any], presets: Mapping[str, ModelConfig] = PRESETS
) -> ModelConfig:
    """Return a preset with some settings changed, those of `preprocess` one by one.

    Args:
        preset: Key of `presets`.
        changes: Values of settings by name.
        presets: The models to choose from.

    Raises:
        EmotionError: The preset or a setting is unknown, or a value is wrong.
    """
    if preset not in presets:
        raise EmotionError(f"preset {preset!r}: expected one of {sorted(presets)}")
    plain = msgspec.to_builtins(presets[preset])
    changes = dict(changes)
    inner = changes.pop("preprocess", {})
    unknown = sorted(changes.keys() - plain.keys())
    if unknown or not isinstance(inner, dict):
        raise EmotionError(
            f"[model]: {', '.join(unknown) or 'preprocess'}: expected settings among {', '.join(plain)}"
        )
    try:
        return msgspec.convert(
            {**plain, **changes, "preprocess": {**plain["preprocess"], **inner}}, ModelConfig
        )
    except msgspec.ValidationError as error:
        raise EmotionError(f"[model]: {error}{_expected(str(error), ModelConfig)}") from error


def _expected(error: str, kind: Any) -> str:
    """Return what can stand at the place of an error of msgspec; "" if that is not one of several names.

    Args:
        error: A message such as "Object contains unknown field `x` - at `$.scenes`".
        kind: The type that was expected.
    """
    wrong = re.search(r"unknown field `([^`]+)`|Invalid enum value '([^']+)'", error)
    found = _single(msgspec.inspect.type_info(kind))
    for name in re.findall(r"\.(\w+)", error.partition("at `$")[2]):
        found = _single(next((f.type for f in getattr(found, "fields", ()) if f.name == name), found))
    names = getattr(found, "values", None) or [f.name for f in getattr(found, "fields", ())]
    if not wrong or not names:
        return ""
    close = get_close_matches(wrong[1] or wrong[2], [str(name) for name in names], 1)
    return f": did you mean {close[0]}?" if close else f": expected one of {', '.join(map(str, names))}"


def _single(found: Any) -> Any:
    """Return the type of a value that may also be missing, or of the elements of a tuple."""
    if isinstance(found, msgspec.inspect.UnionType):
        found = next(each for each in found.types if not isinstance(each, msgspec.inspect.NoneType))
    return found.item_type if isinstance(found, msgspec.inspect.VarTupleType) else found
