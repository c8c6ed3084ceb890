"""More precisions for a bundle without its checkpoint, and the errors."""

import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from exported import Exported, Main, contents, refusal

import emotion_export.parity
from emotion_export.parity import TOLERANCES
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import Bundle, load_bundle, sha256_of
from emotion_runtime.manifest import write_manifest
from emotion_runtime.parity_metrics import Tolerance

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]

MEAN = 6e-3


@pytest.fixture
def plain(small: Exported, tmp_path: Path) -> Bundle:
    """The bundle as if it had been exported in fp32 only."""
    folder = tmp_path / "bundles" / "plain"
    shutil.copytree(small.folder, folder)
    manifest = load_bundle(folder).manifest
    for name in manifest.graphs:
        for precision in ("fp16", "int8"):
            (folder / f"{name}.{precision}.onnx").unlink()
    card = folder / "MODEL_CARD.md"
    lines = [line for line in card.read_text().splitlines() if not re.match(r"\|.*\b(fp16|int8)\b", line)]
    card.write_text("\n".join(lines) + "\n")
    graphs = {name: msgspec.structs.replace(graph, variants={}) for name, graph in manifest.graphs.items()}
    parity = [row for row in manifest.parity if row.precision == "fp32"]
    write_manifest(msgspec.structs.replace(manifest, graphs=graphs, parity=parity), folder)
    return load_bundle(folder)


def derive(to_onnx: Main, bundle: Path, out: Path, *precisions: str) -> Bundle:
    assert to_onnx(["--bundle", str(bundle), "--precision", *precisions, "--out", str(out)]) == 0
    return load_bundle(out)


def test_the_graphs_are_those_that_an_export_would_give(plain: Bundle, small: Exported, to_onnx: Main):
    """fp16 has no choices; int8 is calibrated on what torch and what ONNX Runtime make of the same crops."""
    out = plain.folder.with_name("more")
    made = derive(to_onnx, plain.folder, out, "fp32", "fp16", "int8")
    for name in made.manifest.graphs:
        assert made.graph_path(name).read_bytes() == plain.graph_path(name).read_bytes()
        half = made.graph_path(name, "fp16").read_bytes()
        assert half == load_bundle(small.folder).graph_path(name, "fp16").read_bytes()
        sizes = [made.graph_path(name, precision).stat().st_size for precision in ("int8", "fp32")]
        assert sizes[0] < sizes[1]
    rows = [row for row in made.manifest.parity if row.precision != "fp32"]
    assert {row.reference for row in rows} == {"fp32 graph"}
    assert {row.precision for row in rows} == {"fp16", "int8"}
    kept = [row for row in made.manifest.parity if row.precision == "fp32"]
    assert kept == plain.manifest.parity
    assert {row.reference for row in kept} == {"torch"}
    card = (out / "MODEL_CARD.md").read_text()
    assert card.startswith((plain.folder / "MODEL_CARD.md").read_text().rstrip())
    assert "without the checkpoint" in card
    assert sorted(path.name for path in out.parent.iterdir()) == ["more", "plain"]


def test_metrics_of_the_report_are_those_of_the_files(plain: Bundle, to_onnx: Main):
    """The largest difference between the two files on one batch of our own is near what the report says."""
    made = derive(to_onnx, plain.folder, plain.folder.with_name("more"), "int8")
    rng = np.random.default_rng(9)
    feed = {
        "images": rng.integers(0, 256, (2, 112, 112, 3), dtype=np.uint8),
        "frame_index": np.array([0, 1, 1]),
        "patch_weights": rng.random((3, 49), np.float32),
    }
    expected, found = (
        OnnxBackend(made.graph_path("frame_encoder", precision)).run(feed)["embeddings"]
        for precision in ("fp32", "int8")
    )
    reported = max(
        row.max_abs
        for row in made.manifest.parity
        if (row.graph, row.precision, row.images) == ("frame_encoder", "int8", "random")
    )
    assert reported / 5 < np.abs(found - expected).max() < 5 * reported


def test_a_bundle_can_be_added_to_in_place_and_again(plain: Bundle, to_onnx: Main):
    first = derive(to_onnx, plain.folder, plain.folder, "fp16")
    both = derive(to_onnx, plain.folder, plain.folder, "int8")
    again = derive(to_onnx, plain.folder, plain.folder, "fp16")
    assert list(first.manifest.graphs["frame_encoder"].variants) == ["fp16"]
    for made in (both, again):
        assert set(made.manifest.graphs["frame_encoder"].variants) == {"fp16", "int8"}
        halves = [row for row in made.manifest.parity if row.precision == "fp16"]
        assert halves == [row for row in first.manifest.parity if row.precision == "fp16"]
    assert set(map(repr, again.manifest.parity)) == set(map(repr, both.manifest.parity))
    card = (plain.folder / "MODEL_CARD.md").read_text()
    assert card.count("without the checkpoint") == 1
    assert [path.name for path in plain.folder.parent.iterdir()] == ["plain"]


def test_layers_stay_in_fp32_until_the_parity_check_passes(
    plain: Bundle, to_onnx: Main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A tolerance that int8 in all layers misses, and int8 in some keeps."""
    strict = Tolerance(max_abs=5e-2, mean_abs=MEAN, cosine_min=0.99, subject_cosine=-1, top1_agreement=0)
    monkeypatch.setattr(emotion_export.parity, "TOLERANCES", {**TOLERANCES, "int8": strict})
    made = derive(to_onnx, plain.folder, plain.folder.with_name("more"), "int8")
    screen = capsys.readouterr().err
    assert "frame_encoder in int8: 0 matrix products in fp32" not in screen
    assert "stages in fp32: within tolerance" in screen
    kinds = [node.op_type for node in onnx.load(made.graph_path("frame_encoder", "int8")).graph.node]
    full = [node.op_type for node in onnx.load(made.graph_path("frame_encoder")).graph.node]
    assert kinds.count("DequantizeLinear") > 0
    assert kinds.count("MatMul") == full.count("MatMul")
    rows = [row for row in made.manifest.parity if row.precision == "int8"]
    assert max(row.mean_abs for row in rows) <= MEAN


def test_nothing_is_written_where_sparing_does_not_help(
    plain: Bundle,
    to_onnx: Main,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    impossible = Tolerance(max_abs=1e-9, mean_abs=1e-9, cosine_min=1, subject_cosine=1, top1_agreement=1)
    monkeypatch.setattr(emotion_export.parity, "TOLERANCES", {**TOLERANCES, "fp16": impossible})
    before = contents(tmp_path)
    out = plain.folder.with_name("more")
    line = refusal(to_onnx, capsys, "--bundle", plain.folder, "--precision", "fp16", "--out", out)
    assert "frame_encoder.onnx in fp16 differs from the fp32 graph" in line
    assert "Nothing was written" in line
    assert contents(tmp_path) == before


def refused_frame_encoder(bundle: Bundle, model: onnx.ModelProto, to_onnx: Main, capsys: Capture) -> str:
    """Put a graph in the place of the frame encoder; return the line by which it is refused."""
    path = bundle.graph_path("frame_encoder")
    onnx.save(model, path)
    graphs = dict(bundle.manifest.graphs)
    graphs["frame_encoder"] = msgspec.structs.replace(graphs["frame_encoder"], sha256=sha256_of(path))
    write_manifest(msgspec.structs.replace(bundle.manifest, graphs=graphs), bundle.folder)
    before = contents(bundle.folder.parent)
    out = bundle.folder.with_name("more")
    line = refusal(to_onnx, capsys, "--bundle", bundle.folder, "--precision", "fp16", "--out", out)
    assert contents(bundle.folder.parent) == before
    return line


def test_a_graph_whose_nodes_have_no_names_is_refused(plain: Bundle, to_onnx: Main, capsys: Capture):
    model = onnx.load(plain.graph_path("frame_encoder"))
    model.graph.node[1].name = ""
    assert "has nodes without a unique name" in refused_frame_encoder(plain, model, to_onnx, capsys)


def test_a_graph_for_one_person_only_is_refused(plain: Bundle, to_onnx: Main, capsys: Capture):
    """The manifest, which is checked elsewhere, says any number; the file does not."""
    model = onnx.load(plain.graph_path("frame_encoder"))
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 1
    line = refused_frame_encoder(plain, model, to_onnx, capsys)
    found, stated = line.split("states")
    assert "frame_index int64 [1]" in found
    assert "frame_index int64 ['P']" in stated
    assert "any number of persons" in line


def test_bad_arguments(plain: Bundle, to_onnx: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = plain.folder.with_name("more")
    assert "add --precision fp16 int8" in refusal(to_onnx, capsys, "--bundle", plain.folder, "--out", out)
    fp16 = ("--precision", "fp16", "--out", out)
    assert "not found" in refusal(to_onnx, capsys, "--bundle", tmp_path / "absent", *fp16)
    damaged = plain.graph_path("temporal_encoder")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert "sha256" in refusal(to_onnx, capsys, "--bundle", plain.folder, *fp16)
    assert not out.exists()
