"""Write a bundle completely or not at all: graphs, heads, manifest and model card."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from emotion_export.card import license_of, model_card
from emotion_export.folder import MODEL_CARD, atomic_folder, check_destination
from emotion_export.graphs import graph_sources
from emotion_export.onnx import describe_graph, write_graph
from emotion_export.parity import measure, require_parity
from emotion_export.reference import torch_reference
from emotion_export.swap_limits import measure_swap_limits
from emotion_export.variants import Compared, add_variants, take_samples
from emotion_runtime import __version__
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import load_bundle
from emotion_runtime.defaults import CLIP_SECONDS
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import (
    SCHEMA_VERSION,
    Graph,
    Head,
    Manifest,
    Parity,
    QualityLimits,
    write_manifest,
)
from emotion_runtime.manifest_checks import MAX_CLIP_SECONDS
from emotion_runtime.names import GRAPHS, GraphName, ReducedPrecision
from emotion_runtime.parity import only_output
from emotion_train.heads import (
    AFFECT_PROBE,
    CATEGORIES,
    PROBE,
    ZERO_SHOT,
    LinearHead,
    load_head,
    read_probe_report,
    store_head,
)
from emotion_train.language.phrases import CATEGORY_PHRASES
from emotion_train.pretrained import Checkpoint, read_checkpoint
from emotion_train.probing.zero_shot import check_tower, zero_shot_head

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BundleOptions:
    """How to make a bundle from a checkpoint.

    Attributes:
        name: Name in the manifest.
        clip_seconds: Duration of a clip, in seconds.
        probe: Folder of emotion-train fit-probe. Its head becomes the default head; its head for valence,
            arousal and dominance becomes the manifest's `affect_head`.
        window: Replaces the window of the checkpoint's preprocessing.
        videos: Videos of people for the int8 calibration and the parity check, in addition to the demo.
        precisions: Precisions of the bundle in addition to fp32.
        swap_videos: Videos in which every person stays in view, to measure the manifest's `swap`. Without
            any, it is None.
    """

    name: str
    clip_seconds: float = CLIP_SECONDS
    probe: Path | None = None
    window: Literal["center", "subject"] | None = None
    videos: tuple[str, ...] = ()
    precisions: frozenset[ReducedPrecision] = frozenset()
    swap_videos: tuple[str, ...] = ()


def export_bundle(checkpoint: Path, out: Path, options: BundleOptions) -> Manifest:
    """Export a checkpoint as the bundle folder `out`, which is replaced if it is already a bundle.

    Returns:
        The manifest of the bundle.

    Raises:
        EmotionError: The checkpoint, the probe or a video cannot be used, the graphs differ from the model,
            or `out` cannot be written. Then `out` is unchanged.
    """
    if not 0 < options.clip_seconds <= MAX_CLIP_SECONDS:
        raise EmotionError(
            f"clip seconds {options.clip_seconds}: expected more than 0, for example 1.6, and at most "
            f"{MAX_CLIP_SECONDS}"
        )
    if not options.name.strip():
        raise EmotionError(f"name {options.name!r}: expected a word")
    out = out.resolve()
    check_destination(out, options.name)
    source = read_checkpoint(checkpoint)
    spec = source.model.config.preprocess
    if options.window is not None:
        spec = msgspec.structs.replace(spec, window=options.window)
    with atomic_folder(out) as folder:
        heads = write_heads(source, options.probe, folder)
        _log.info("running torch on the people in %s", ", ".join(("demo", *options.videos)))
        default = PROBE if PROBE in heads else ZERO_SHOT
        reference = torch_reference(graph_sources(source.model), folder, heads, default)
        compared, calibration = take_samples(reference, spec, options.videos)
        graphs, parity = write_graphs(source, compared, folder)
        graphs, more = add_variants(graphs, folder, options.precisions, compared, calibration)
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
            default_head=default,
            parity=parity + more,
            affect_head=AFFECT_PROBE if AFFECT_PROBE in heads else None,
        )
        limits = quality_of(options.probe)
        if limits is not None:
            manifest = msgspec.structs.replace(manifest, quality=limits)
        if options.swap_videos:
            manifest = msgspec.structs.replace(
                manifest, swap=measure_swap_limits(manifest, folder, options.swap_videos)
            )
        write_manifest(manifest, folder)
        (folder / MODEL_CARD).write_text(model_card(manifest, source), encoding="utf-8")
        load_bundle(folder)  # a bundle that the runtime would refuse is never put in place
    return manifest


def write_graphs(
    checkpoint: Checkpoint, compared: Compared, folder: Path
) -> tuple[dict[GraphName, Graph], list[Parity]]:
    """Export both graphs in fp32 into `folder` and compare them with the model.

    Returns:
        The graphs as described in the manifest, and the rows of the parity report.

    Raises:
        EmotionError: A graph is invalid, or differs from the model by more than `TOLERANCES`.
    """
    rows: list[Parity] = []
    graphs: dict[GraphName, Graph] = {}
    for name, source in zip(GRAPHS, graph_sources(checkpoint.model), strict=True):
        _log.info("exporting %s (%s)", name, checkpoint.preset)
        path = folder / f"{name}.onnx"
        write_graph(source, path)
        own = measure(compared[name], [only_output(OnnxBackend(path))], "fp32")
        require_parity(own)
        rows += own
        graphs[name] = describe_graph(path)
    return graphs, rows


def write_heads(checkpoint: Checkpoint, probe: Path | None, folder: Path) -> dict[str, Head]:
    """Write the heads into `folder`: those of the folder `probe`, and always the zero-shot banks.

    Raises:
        EmotionError: `probe` contains no head or a head of another checkpoint, or the values of a head are
            not finite.
    """
    heads = {}
    banks = {
        ZERO_SHOT: zero_shot_head(checkpoint.model, checkpoint.sha256, {}),
        CATEGORIES: zero_shot_head(
            checkpoint.model, checkpoint.sha256, {}, phrases=CATEGORY_PHRASES, experimental=True
        ),
    }
    if probe is not None:
        found = fitted_heads(probe)
        measured = [name for name in banks if (probe / f"{name}.json").is_file()]
        for name in found or ([] if measured else [PROBE]):  # without any head, the error names the probe
            heads[name] = store_head(folder, name, _fitted(checkpoint, probe, name))
        banks |= {name: _measured_bank(checkpoint, probe, name, banks[name]) for name in measured}
    return heads | {name: store_head(folder, name, bank) for name, bank in banks.items()}


def fitted_heads(probe: Path) -> list[str]:
    """Return the names of the fitted heads of a bundle that the folder `probe` has.

    The report of fit-probe lists the heads of its run; a head beside it that it does not list is of another
    run. Without such a list, every head counts.

    Raises:
        EmotionError: report.json is not a report of fit-probe.
    """
    report = read_probe_report(probe)
    listed = None if report is None else report.heads
    return [
        name
        for name in (PROBE, AFFECT_PROBE)
        if (name in listed if listed is not None else (probe / f"{name}.json").is_file())
    ]


def quality_of(probe: Path | None) -> QualityLimits | None:
    """Return the limits of quality that fit-probe measured with the head in the folder `probe`, if it did."""
    if probe is None or PROBE not in fitted_heads(probe):
        return None
    return load_head(probe, PROBE).card.quality


def _measured_bank(checkpoint: Checkpoint, probe: Path, name: str, bank: LinearHead) -> LinearHead:
    """Return the bank that fit-probe measured, if it belongs to the text tower of this checkpoint."""
    saved = load_head(probe, name)
    if saved.card.text_tower_sha256 is None:  # written before banks recorded their tower
        return replace(bank, card=msgspec.structs.replace(bank.card, metrics=saved.card.metrics))
    check_tower(saved, checkpoint.model)
    return saved


def _fitted(checkpoint: Checkpoint, probe: Path, name: str) -> LinearHead:
    """Return a head of fit-probe, if it was fitted on the features that the runtime computes."""
    fitted = load_head(probe, name)
    dim = checkpoint.model.config.embed_dim
    if fitted.card.checkpoint_sha256 != checkpoint.sha256 or fitted.weight.shape[1] != dim:
        raise EmotionError(
            f"probe {probe} was fitted on {fitted.weight.shape[1]} features of checkpoint "
            f"{fitted.card.checkpoint_sha256[:12]}..., expected {dim} features of "
            f"{checkpoint.sha256[:12]}...: run emotion-train fit-probe with this checkpoint"
        )
    if fitted.card.features != "video":
        raise EmotionError(
            f"probe {probe}: head {name} was fitted on features of the frame encoder alone; the runtime "
            "computes those of the temporal encoder: run emotion-train fit-probe with --features video"
        )
    return fitted
