"""Add precisions to a bundle without its checkpoint: they are made from the bundle's own fp32 graphs."""

import logging
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from emotion_export.folder import CARD_IMAGES, MODEL_CARD, atomic_folder, check_destination
from emotion_export.onnx import describe_graph
from emotion_export.parity import parity_table
from emotion_export.variants import add_variants, take_samples
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import MANIFEST, SCHEMA_VERSION, Graph, Manifest, Parity, write_manifest
from emotion_runtime.names import ReducedPrecision
from emotion_runtime.parity import bundle_reference

_log = logging.getLogger(__name__)

_HEADING = "## Parity of the other precisions with fp32"
_INTRO = """\
The fp16 and int8 graphs were made from the fp32 graphs of the bundle, without the checkpoint. Every row
compares them with the fp32 graphs, not with torch; the table above compares fp32 with torch. int8 is run with
integer kernels and, as in TensorRT, in float between Quantize and Dequantize; the worse result is shown."""


def derive_bundle(
    bundle: str | Path,
    out: Path,
    precisions: Collection[ReducedPrecision],
    videos: Sequence[str] = (),
) -> Manifest:
    """Write a bundle with more precisions as the folder `out`, which is replaced if it is already a bundle.

    Args:
        bundle: Name or folder of the bundle; the folder may be `out`.
        out: Folder to write.
        precisions: Precisions to add, or to make again.
        videos: Videos of people for the int8 calibration and the parity check, in addition to the demo.

    Returns:
        The manifest of the new bundle.

    Raises:
        EmotionError: The bundle or a video cannot be used, a graph exceeds the tolerance, or `out` cannot be
            written. Then `out` is unchanged.
    """
    if not precisions:
        raise EmotionError(
            "--bundle adds precisions to a bundle, but none is given: add --precision fp16 int8"
        )
    out = out.resolve()
    loaded = load_bundle(bundle)
    check_destination(out, loaded.manifest.name)
    for name, graph in loaded.manifest.graphs.items():
        _check_described(loaded.graph_path(name), graph)
    _log.info("running the fp32 graphs, as the reference, on the people in %s", ", ".join(("demo", *videos)))
    compared, calibration = take_samples(bundle_reference(loaded), loaded.manifest.preprocess, videos)
    with atomic_folder(out) as folder:
        _copy(loaded, folder)
        graphs, rows = add_variants(loaded.manifest.graphs, folder, precisions, compared, calibration)
        kept = [row for row in loaded.manifest.parity if row.precision not in precisions]
        manifest = msgspec.structs.replace(
            loaded.manifest, schema=SCHEMA_VERSION, graphs=graphs, parity=kept + rows
        )
        write_manifest(manifest, folder)
        _update_card(folder / MODEL_CARD, manifest, precisions)
        load_bundle(folder)
    return manifest


def _check_described(path: Path, stated: Graph) -> None:
    """Check that a graph file has the inputs and outputs that the manifest states, dynamic sizes included."""
    found = describe_graph(path)
    in_file, in_manifest = (
        [f"{tensor.name} {tensor.dtype} {tensor.shape}" for tensor in (*graph.inputs, *graph.outputs)]
        for graph in (found, stated)
    )
    if in_file != in_manifest:
        raise EmotionError(
            f"{path} has {', '.join(in_file)}; its {MANIFEST} states {', '.join(in_manifest)}, for any "
            "number of persons: export it again with emotion-export onnx --checkpoint"
        )


def _copy(bundle: Bundle, folder: Path) -> None:
    """Copy the files that the manifest names and the card with its images, but no other file."""
    manifest = bundle.manifest
    names = [graph.file for graph in manifest.graphs.values()]
    names += [variant.file for graph in manifest.graphs.values() for variant in graph.variants.values()]
    names += [head.file for head in manifest.heads.values()]
    for name in (*names, *filter(lambda name: (bundle.folder / name).is_file(), (MODEL_CARD, *CARD_IMAGES))):
        shutil.copyfile(bundle.folder / name, folder / name)


def _update_card(card: Path, manifest: Manifest, precisions: Collection[ReducedPrecision]) -> None:
    """Remove what the tables say of the precisions that were made anew, and add their section."""
    text = card.read_text(encoding="utf-8") if card.is_file() else f"# {manifest.name}\n"
    rows: list[Parity] = [row for row in manifest.parity if row.reference == "fp32 graph"]
    section = f"{_HEADING}\n\n{_INTRO}\n\n{parity_table(rows)}\n"
    before = text.split(_HEADING)[0].rstrip().splitlines()
    replaced = re.compile(rf"\|.*\b({'|'.join(sorted(precisions))})\b")
    kept = "\n".join(line for line in before if not replaced.match(line))
    card.write_text(f"{kept}\n\n{section}", encoding="utf-8")
