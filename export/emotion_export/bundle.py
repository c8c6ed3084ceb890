"""Write a bundle: graphs, heads, manifest and model card, whole or not at all."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from safetensors.numpy import save

from emotion_export.card import license_of, model_card
from emotion_export.folder import MODEL_CARD, atomic_folder, check_destination
from emotion_export.graphs import graph_sources
from emotion_export.onnx import describe_graph, write_graph
from emotion_export.parity import measure, parity_table, require_parity
from emotion_export.reference import run_graph, torch_reference
from emotion_export.variants import Samples, add_variants, take_samples
from emotion_runtime import __version__
from emotion_runtime.bundle import load_bundle, sha256_of
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import (
    SCHEMA_VERSION,
    Graph,
    GraphName,
    Head,
    Manifest,
    Parity,
    ReducedPrecision,
    write_manifest,
)
from emotion_runtime.names import GRAPHS
from emotion_train.heads import AFFECT_PROBE, CATEGORIES, PROBE, ZERO_SHOT, LinearHead, load_head
from emotion_train.language.phrases import CATEGORY_PHRASES
from emotion_train.pretrained import Checkpoint, read_checkpoint
from emotion_train.probing.zero_shot import check_tower, zero_shot_head


@dataclass(frozen=True, slots=True)
class BundleOptions:
    """What a bundle is made with, beside its checkpoint.

    name: in the manifest. clip_seconds: time a clip spans. probe: folder of emotion-train fit-probe, its head
    becomes the default, and its head of valence, arousal and dominance the manifest's affect_head. window:
    replaces the window of the checkpoint's preprocess spec. videos: people to calibrate int8 and to compare
    on, beside the demo's two. precisions: that the bundle has beside fp32.
    """

    name: str
    clip_seconds: float = 1.6
    probe: Path | None = None
    window: Literal["center", "subject"] | None = None
    videos: tuple[str, ...] = ()
    precisions: frozenset[ReducedPrecision] = frozenset()


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
    check_destination(out)
    source = read_checkpoint(checkpoint)
    spec = source.model.config.preprocess
    if options.window is not None:
        spec = msgspec.structs.replace(spec, window=options.window)
    with atomic_folder(out) as folder:
        heads = write_heads(source, options.probe, folder)
        report(f"looking for people in {', '.join(('demo', *options.videos))}, and asking torch about them")
        reference = torch_reference(graph_sources(source.model), folder, heads)
        samples = take_samples(reference, spec, options.videos)
        graphs, parity = write_graphs(source, samples, folder, report)
        graphs, more = add_variants(graphs, folder, options.precisions, samples, report)
        manifest = Manifest(
            schema=SCHEMA_VERSION,
            name=options.name,
            preset=source.preset,
            created_by=f"emotion-runtime {__version__}",
            license=license_of(source),
            checkpoint_sha256=source.sha256,
            embedding_dim=source.model.config.embed_dim,
            clip_frames=source.model.config.clip_frames,
            clip_seconds=options.clip_seconds,
            preprocess=spec,
            graphs=graphs,
            heads=heads,
            default_head=PROBE if PROBE in heads else ZERO_SHOT,
            parity=parity + more,
            affect_head=AFFECT_PROBE if AFFECT_PROBE in heads else None,
        )
        write_manifest(manifest, folder)
        (folder / MODEL_CARD).write_text(model_card(manifest, source), encoding="utf-8")
        load_bundle(folder)  # as a runtime will: what it would refuse is not put in place
    return manifest


def write_graphs(
    checkpoint: Checkpoint, samples: Samples, folder: Path, report: Callable[[str], None]
) -> tuple[dict[GraphName, Graph], list[Parity]]:
    """Export both graphs in fp32 into `folder`, compared with the model. Returns what the manifest says.

    Raises:
        EmotionError: a graph is invalid, or differs from the model by more than `TOLERANCES`.

    """
    rows: list[Parity] = []
    graphs: dict[GraphName, Graph] = {}
    for name, source in zip(GRAPHS, graph_sources(checkpoint.model), strict=True):
        report(f"exporting {name} ({checkpoint.preset})")
        path = folder / f"{name}.onnx"
        write_graph(source, path)
        rows += measure(samples.compared, name, run_graph(path, source.output), "fp32")
        graphs[name] = describe_graph(path)
    report("compared with torch: ONNX Runtime, CPU, float32")
    report(parity_table(rows))
    require_parity(rows)
    return graphs, rows


def write_heads(checkpoint: Checkpoint, probe: Path | None, folder: Path) -> dict[str, Head]:
    """Write the heads into `folder`: those of the folder `probe`, and the zero-shot banks in any case.

    Raises:
        EmotionError: `probe` holds no head, or one of another checkpoint, or a head is broken.

    """
    heads = {}
    banks = {
        ZERO_SHOT: zero_shot_head(checkpoint.model, checkpoint.sha256, {}),
        CATEGORIES: zero_shot_head(
            checkpoint.model, checkpoint.sha256, {}, phrases=CATEGORY_PHRASES, experimental=True
        ),
    }
    if probe is not None:
        found = [name for name in (PROBE, AFFECT_PROBE) if (probe / f"{name}.json").is_file()]
        measured = [name for name in banks if (probe / f"{name}.json").is_file()]
        for name in found or ([] if measured else [PROBE]):  # the last is what is then said to be missing
            heads[name] = _write_head(folder, name, _fitted(checkpoint, probe, name))
        banks |= {name: _measured_bank(checkpoint, probe, name, banks[name]) for name in measured}
    return heads | {name: _write_head(folder, name, bank) for name, bank in banks.items()}


def _measured_bank(checkpoint: Checkpoint, probe: Path, name: str, bank: LinearHead) -> LinearHead:
    """The bank that emotion-train fit-probe measured, if it is of this checkpoint's text tower."""
    saved = load_head(probe, name)
    if saved.card.text_tower_sha256 is None:  # of a version that did not bind banks to their tower
        return replace(bank, card=msgspec.structs.replace(bank.card, metrics=saved.card.metrics))
    check_tower(saved, checkpoint.model)
    return saved


def _fitted(checkpoint: Checkpoint, probe: Path, name: str) -> LinearHead:
    """A head of emotion-train fit-probe that reads the features which the runtime will have."""
    fitted = load_head(probe, name)
    dim = checkpoint.model.config.embed_dim
    if fitted.card.checkpoint_sha256 != checkpoint.sha256 or fitted.weight.shape[1] != dim:
        raise EmotionError(
            f"probe {probe} reads {fitted.weight.shape[1]} features of checkpoint "
            f"{fitted.card.checkpoint_sha256[:12]}..., this is {dim} features of "
            f"{checkpoint.sha256[:12]}...: run emotion-train fit-probe with this checkpoint"
        )
    if fitted.card.features != "video":
        raise EmotionError(
            f"probe {probe}: head {name} reads features of the frame encoder alone, the runtime has those of "
            "the temporal encoder: run emotion-train fit-probe with --features video"
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
        card.kind,
        path.name,
        sha256_of(path),
        card.labels,
        card.activation,
        card.temperature,
        card.metrics,
        card.abstain,
        card.experimental,
    )
