"""Write a bundle with new heads on the graphs of another bundle; neither torch nor a checkpoint is needed."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.manifest import MANIFEST, SCHEMA_VERSION, Head, write_manifest
from emotion_train.heads import AFFECT_PROBE, PROBE, LinearHead, store_head

CARD = "MODEL_CARD.md"

_CARD_TEXT = """# {name}

The encoders are those of the bundle `{source}` (checkpoint sha256 `{sha256}`);
read its model card about the data that they were trained on, what they cannot do and what is prohibited. The
heads below were fitted, or measured if they are made from text, with
`emotion-train fit-probe --bundle {source} --dataset {dataset}`. This command fitted no head on a row
that a metric counts; those of `val` are optimistic where regularisation, temperature or the threshold for a
label were chosen on them. Whether the encoders were trained on these rows is not recorded.

Licence of the weights: {license}

{heads}
"""


def write_bundle(bundle: Bundle, heads: Mapping[str, LinearHead], out: Path, *, dataset: str) -> Path:
    """Write a bundle with the graphs of `bundle` and new heads; its other heads are kept.

    The manifest is written last, so that an incomplete folder is not taken for a bundle.

    Args:
        bundle: Whose graphs and other heads are copied.
        heads: The new heads by name; `probe` becomes the default head, `affect` the affect head.
        out: Folder to write, which is replaced if it is a bundle that this function wrote before.
        dataset: Name of the data set, for the card.

    Returns:
        The folder.

    Raises:
        EmotionError: The folder has other files, or cannot be written.
    """
    manifest = bundle.manifest
    _clear(out)
    stored = {name: store_head(out, name, head) for name, head in heads.items()}
    all_heads = manifest.heads | stored
    files = [graph.file for graph in manifest.graphs.values()]
    files += [variant.file for graph in manifest.graphs.values() for variant in graph.variants.values()]
    files += [head.file for name, head in all_heads.items() if name not in stored]
    try:
        for file in files:
            shutil.copyfile(bundle.folder / file, out / file)
    except OSError as error:
        raise EmotionError(
            f"bundle {out} cannot be written: {error.strerror}; free disk space, or choose another folder"
        ) from error
    new = msgspec.structs.replace(
        manifest,
        schema=SCHEMA_VERSION,
        name=(out.resolve().parent if out.name == "bundle" else out.resolve()).name or "bundle",
        heads=all_heads,
        default_head=PROBE if PROBE in stored else manifest.default_head,
        affect_head=AFFECT_PROBE if AFFECT_PROBE in stored else manifest.affect_head,
        quality=(heads[PROBE].card.quality if PROBE in heads else None) or manifest.quality,
    )
    text = _CARD_TEXT.format(
        name=new.name,
        source=manifest.name,
        sha256=manifest.checkpoint_sha256,
        license=manifest.license,
        dataset=dataset,
        heads="\n\n".join(_described(name, head) for name, head in stored.items()),
    )
    write_atomically(out / CARD, text)
    write_manifest(new, out)
    load_bundle(out)
    return out


def check_folder(out: Path) -> None:
    """Check that `out` has no files but those that `write_bundle` writes.

    Raises:
        EmotionError: It has others, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise EmotionError(f"{out} is a file: expected a folder for the bundle; choose another --out")
    foreign = [
        name
        for name in _names(out)
        if name not in (MANIFEST, CARD) and not name.endswith((".onnx", ".safetensors"))
    ]
    if foreign:
        raise EmotionError(
            f"{out} contains files that do not belong to a bundle of fit-probe ({', '.join(foreign[:5])}): "
            "choose another --out"
        )


def _clear(out: Path) -> None:
    """Remove the bundle that an earlier call left, and nothing else."""
    check_folder(out)
    for name in sorted(_names(out), key=lambda name: name != MANIFEST):  # first the manifest
        (out / name).unlink()


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _described(name: str, head: Head) -> str:
    kind = (
        "Fitted on labelled data." if head.kind == "probe" else "Made from text by that bundle, not fitted."
    )
    lines = [f"## Head `{name}`", "", f"{kind} Labels: {', '.join(head.labels)}."]
    if head.abstain:
        lines.append(f"No label is given if its probability is below {head.abstain:.3f}.")
    rows = [f"| {metric} | {value:.4g} |" for metric, value in head.metrics.items()]
    return "\n".join([*lines, "", "| metric, by split | |", "|---|---|", *rows])
