"""Write a bundle: graphs, heads, manifest and model card, whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from emotion_export.card import model_card
from emotion_export.checkpoints import Checkpoint, read_checkpoint
from emotion_export.graphs import graph_sources
from emotion_export.onnx import describe_graph, write_graph
from emotion_export.parity import (
    TOLERANCES,
    frame_encoder_parity,
    parity_batches,
    parity_scenes,
    parity_table,
    refuse_differences,
    temporal_encoder_parity,
)
from emotion_runtime import __version__
from emotion_runtime.bundle import (
    MANIFEST,
    SCHEMA_VERSION,
    Graph,
    GraphName,
    Head,
    Manifest,
    Parity,
    load_bundle,
    sha256_of,
    write_manifest,
)
from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.heads import AFFECT_PROBE, PROBE, ZERO_SHOT, LinearHead, load_head
from emotion_train.zero_shot import check_tower, zero_shot_head

LICENSE = "Apache-2.0"
RELEASED_LICENSE = "as the authors of the weights state"  # not ours to give
MODEL_CARD = "MODEL_CARD.md"


@dataclass(frozen=True, slots=True)
class BundleOptions:
    """What a bundle is made with, beside its checkpoint.

    name: in the manifest. clip_seconds: time a clip spans. probe: folder of fit_probe.py, its head becomes
    the default, and its head of valence, arousal and dominance the manifest's affect_head. window: replaces
    the window of the checkpoint's preprocess spec. videos: real frames for the parity report, beside the
    drawn ones and the demo's.
    """

    name: str
    clip_seconds: float = 1.6
    probe: Path | None = None
    window: Literal["center", "subject"] | None = None
    videos: tuple[str, ...] = ()


def export_bundle(
    checkpoint: Path, out: Path, options: BundleOptions, *, report: Callable[[str], None] = lambda _: None
) -> Manifest:
    """Write a checkpoint as the bundle folder `out`, which is replaced if it is a bundle already.

    report: is told, line by line, what is being done, and the parity table.

    Raises:
        EmotionError: the checkpoint, the probe or a video cannot be used, the graphs differ from the model,
            or `out` cannot be written. Then `out` is as it was.

    """
    if not 0 < options.clip_seconds < float("inf"):
        raise EmotionError(f"clip seconds {options.clip_seconds}: expected more than 0, for example 1.6")
    out = out.resolve()
    _check_destination(out)
    source = read_checkpoint(checkpoint)
    scenes = parity_scenes(options.videos)
    spec = source.model.config.preprocess
    if options.window is not None:
        spec = msgspec.structs.replace(spec, window=options.window)
    with _folder_in_place_of(out) as folder:
        heads = write_heads(source, options.probe, folder)
        graphs, parity = write_graphs(source, spec, scenes, folder, report)
        manifest = Manifest(
            schema=SCHEMA_VERSION,
            name=options.name,
            preset=source.preset,
            created_by=f"emotion-runtime {__version__}",
            license=RELEASED_LICENSE if source.released else LICENSE,
            checkpoint_sha256=source.sha256,
            embedding_dim=source.model.config.embed_dim,
            clip_frames=source.model.config.clip_frames,
            clip_seconds=options.clip_seconds,
            preprocess=spec,
            graphs=graphs,
            heads=heads,
            default_head=PROBE if PROBE in heads else ZERO_SHOT,
            parity=parity,
            affect_head=AFFECT_PROBE if AFFECT_PROBE in heads else None,
        )
        write_manifest(manifest, folder)
        (folder / MODEL_CARD).write_text(model_card(manifest, source), encoding="utf-8")
        load_bundle(folder)  # as a runtime will: what it would refuse is not put in place
    return manifest


def write_graphs(
    checkpoint: Checkpoint,
    spec: PreprocessSpec,
    scenes: Sequence[NDArray[np.uint8]],
    folder: Path,
    report: Callable[[str], None],
) -> tuple[dict[GraphName, Graph], list[Parity]]:
    """Export both graphs into `folder` and compare them with the model. Returns what the manifest says.

    Raises:
        EmotionError: a graph is invalid, or differs from the model by more than `TOLERANCES`.

    """
    frame_encoder, temporal_encoder = graph_sources(checkpoint.model)
    paths = {source.name: folder / f"{source.name}.onnx" for source in (frame_encoder, temporal_encoder)}
    for source in (frame_encoder, temporal_encoder):
        report(f"exporting {source.name} ({checkpoint.preset})")
        write_graph(source, paths[source.name])
    report("comparing with torch: ONNX Runtime, CPU, float32")
    rows, embeddings = frame_encoder_parity(
        frame_encoder, paths["frame_encoder"], parity_batches(spec, scenes)
    )
    rows += temporal_encoder_parity(temporal_encoder, paths["temporal_encoder"], embeddings)
    report(parity_table(rows))
    refuse_differences(rows, TOLERANCES)
    return {name: describe_graph(path) for name, path in paths.items()}, rows


def write_heads(checkpoint: Checkpoint, probe: Path | None, folder: Path) -> dict[str, Head]:
    """Write the heads into `folder`: those of the folder `probe`, and a zero-shot bank in any case.

    Raises:
        EmotionError: `probe` holds no head, or one of another checkpoint, or a head is broken.

    """
    heads = {}
    bank = zero_shot_head(checkpoint.model, checkpoint.sha256, {})
    if probe is not None:
        found = [name for name in (PROBE, AFFECT_PROBE) if (probe / f"{name}.json").is_file()]
        measured = (probe / f"{ZERO_SHOT}.json").is_file()
        for name in found or ([] if measured else [PROBE]):  # the last is what is then said to be missing
            heads[name] = _write_head(folder, name, _fitted(checkpoint, probe, name))
        if measured:
            saved = load_head(probe, ZERO_SHOT)
            if saved.card.text_tower_sha256 is None:  # of a version that did not bind banks to their tower
                bank = replace(bank, card=msgspec.structs.replace(bank.card, metrics=saved.card.metrics))
            else:
                check_tower(saved, checkpoint.model)
                bank = saved
    heads[ZERO_SHOT] = _write_head(folder, ZERO_SHOT, bank)
    return heads


def _fitted(checkpoint: Checkpoint, probe: Path, name: str) -> LinearHead:
    """A head of fit_probe.py that reads the features which the runtime will have."""
    fitted = load_head(probe, name)
    dim = checkpoint.model.config.embed_dim
    if fitted.card.checkpoint_sha256 != checkpoint.sha256 or fitted.weight.shape[1] != dim:
        raise EmotionError(
            f"probe {probe} reads {fitted.weight.shape[1]} features of checkpoint "
            f"{fitted.card.checkpoint_sha256[:12]}..., this is {dim} features of "
            f"{checkpoint.sha256[:12]}...: run train/fit_probe.py with this checkpoint"
        )
    if fitted.card.features != "video":
        raise EmotionError(
            f"probe {probe}: head {name} reads features of the frame encoder alone, the runtime has those of "
            "the temporal encoder: run train/fit_probe.py with --features video"
        )
    return fitted


def _write_head(folder: Path, name: str, head: LinearHead) -> Head:
    if not (np.isfinite(head.weight).all() and np.isfinite(head.bias).all()):
        raise EmotionError(
            f"head {name} holds values that are no finite numbers, expected none: training broke before this "
            "checkpoint was written, use an earlier one"
        )
    path = folder / f"{name}.safetensors"
    # safetensors takes an array's memory as it lies, whatever its strides.
    path.write_bytes(save({"weight": np.ascontiguousarray(head.weight), "bias": head.bias}))
    card = head.card
    return Head(
        card.kind, path.name, sha256_of(path), card.labels, card.activation, card.temperature, card.metrics
    )


def _check_destination(out: Path) -> None:
    """Replace a bundle, and never anything else."""
    if out.exists() and not out.is_dir():
        raise EmotionError(f"--out {out} is a file: expected a folder to write the bundle to")
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    foreign = [
        n for n in names if n not in (MANIFEST, MODEL_CARD) and not n.endswith((".onnx", ".safetensors"))
    ]
    if foreign or (names and MANIFEST not in names):
        raise EmotionError(
            f"--out {out} holds files that are no bundle's ({', '.join((foreign or names)[:5])}), which "
            "would be lost: choose a new or an empty folder"
        )


@contextmanager
def _folder_in_place_of(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that takes its place if the block succeeds, and is removed if it does not."""
    new, old = (out.with_name(f".{out.name}.{os.getpid()}.{state}") for state in ("new", "old"))
    try:
        new.mkdir(parents=True)
        yield new
        _put_in_place(new, out, old)
    except OSError as error:
        raise EmotionError(
            f"bundle {out} cannot be written: {error.strerror or error}; choose another --out"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _put_in_place(new: Path, out: Path, old: Path) -> None:
    """Rename `new` to `out`; `old` is the name under which what was there waits meanwhile."""
    replaced = out.exists()
    if replaced:
        out.rename(old)  # a folder that is not empty cannot be renamed over
    try:
        new.rename(out)
    except BaseException:
        if replaced:
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
