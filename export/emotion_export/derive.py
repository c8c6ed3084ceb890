"""More precisions for a bundle whose checkpoint is not at hand: made from its own fp32 graphs."""

import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from emotion_export.folder import MODEL_CARD, atomic_folder, check_destination
from emotion_export.onnx import describe_graph
from emotion_export.parity import parity_table
from emotion_export.reference import bundle_reference
from emotion_export.variants import add_variants, take_samples
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    Graph,
    Manifest,
    Parity,
    ReducedPrecision,
    write_manifest,
)

_HEADING = "## Is the graph in fewer bits the graph in fp32?"
_INTRO = """\
fp16 and int8 were made from the fp32 graphs of the bundle, without the checkpoint, and every row compares
them with these, not with torch; the table above says how far fp32 is from torch. int8 is run with integer
kernels and, as TensorRT computes, in float between Quantize and Dequantize; the worse figure stands here."""


def derive_bundle(
    bundle: str | Path,
    out: Path,
    precisions: Collection[ReducedPrecision],
    videos: Sequence[str] = (),
    *,
    report: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write the bundle with more precisions as the folder `out`, which is replaced if it is a bundle already.

    bundle: name or folder; it may be `out`. videos: people to calibrate int8 and to compare on.

    Raises:
        EmotionError: the bundle or a video cannot be used, a graph in fewer bits is beyond tolerance, or
            `out` cannot be written. Then `out` is as it was.

    """
    if not precisions:
        raise EmotionError("--bundle gives a bundle more precisions, got none: add --precision fp16 int8")
    out = out.resolve()
    check_destination(out)
    loaded = load_bundle(bundle)
    for name, graph in loaded.manifest.graphs.items():
        _check_described(loaded.graph_path(name), graph)
    report(
        f"looking for people in {', '.join(('demo', *videos))}; the reference is the fp32 graphs, not torch"
    )
    samples = take_samples(bundle_reference(loaded), loaded.manifest.preprocess, videos)
    with atomic_folder(out) as folder:
        _copy(loaded, folder)
        graphs, rows = add_variants(loaded.manifest.graphs, folder, precisions, samples, report)
        kept = [row for row in loaded.manifest.parity if row.precision not in precisions]
        manifest = msgspec.structs.replace(
            loaded.manifest, schema=SCHEMA_VERSION, graphs=graphs, parity=kept + rows
        )
        write_manifest(manifest, folder)
        _add_to_card(folder / MODEL_CARD, manifest)
        load_bundle(folder)
    return manifest


def _check_described(path: Path, stated: Graph) -> None:
    """The manifest was checked to have dynamic sizes; whether the file has them is another matter."""
    found = describe_graph(path)
    in_file, in_manifest = (
        [f"{tensor.name} {tensor.dtype} {tensor.shape}" for tensor in (*graph.inputs, *graph.outputs)]
        for graph in (found, stated)
    )
    if in_file != in_manifest:
        raise EmotionError(
            f"{path} has {', '.join(in_file)}; its {MANIFEST} states {', '.join(in_manifest)}, for any "
            "number of persons: export it again with export/to_onnx.py --checkpoint"
        )


def _copy(bundle: Bundle, folder: Path) -> None:
    """All files that the manifest names, and the card; nothing else that lies in the bundle's folder."""
    manifest = bundle.manifest
    names = [graph.file for graph in manifest.graphs.values()]
    names += [variant.file for graph in manifest.graphs.values() for variant in graph.variants.values()]
    names += [head.file for head in manifest.heads.values()]
    for name in (*names, *([MODEL_CARD] if (bundle.folder / MODEL_CARD).is_file() else [])):
        shutil.copyfile(bundle.folder / name, folder / name)


def _add_to_card(card: Path, manifest: Manifest) -> None:
    """A section at the end, in place of one that is there."""
    text = card.read_text(encoding="utf-8") if card.is_file() else f"# {manifest.name}\n"
    rows: list[Parity] = [row for row in manifest.parity if row.reference == "fp32 graph"]
    section = f"{_HEADING}\n\n{_INTRO}\n\n{parity_table(rows)}\n"
    card.write_text(f"{text.split(_HEADING)[0].rstrip()}\n\n{section}", encoding="utf-8")
