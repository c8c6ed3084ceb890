"""Detectors on the backends of the encoders: equal boxes, engines from the cache, what replaces them."""

import logging
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from engine_stand_ins import GPU, SECONDS, VERSION, Cache, sidecar, sorted_rows
from numpy.typing import NDArray

from emotion_runtime import detector_backend, detector_parity
from emotion_runtime.backends.base import Backend, Feeds, Outputs, Unavailable
from emotion_runtime.backends.cuda import BoundBackend
from emotion_runtime.backends.onnx import OnnxBackend, open_graph
from emotion_runtime.detector_backend import run_network
from emotion_runtime.detector_parity import demo_frames
from emotion_runtime.detectors.agreement import compare_detections
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.detectors.graph import INPUT
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt import build_client, open_engines
from emotion_runtime.tensorrt import cache as engines
from emotion_runtime.tensorrt.keys import detector_key

SIZE = (192, 320)


@pytest.fixture
def face(monkeypatch: pytest.MonkeyPatch) -> CenterFace:
    monkeypatch.setattr(detector_parity, "MOST_FRAMES", 2)
    return CenterFace(threads=1, long_side=SIZE[1])


@pytest.fixture(scope="module")
def frames() -> list[NDArray[np.uint8]]:
    return demo_frames(SIZE, 3)


def agree(face: CenterFace, images: list[NDArray[np.uint8]], iou: float) -> bool:
    """Return whether a detector finds what it found with ONNX Runtime on the CPU."""
    found = face.find_all(images)
    face.network = face.reference
    expected = face.find_all(images)
    agreement = compare_detections(expected, found, score=face.score)
    assert agreement.boxes >= len(images)
    return agreement.missing == agreement.extra == 0 and agreement.iou_min >= iou


def test_on_the_cpu_only_the_number_of_threads_is_replaced(face: CenterFace, frames: list[NDArray[np.uint8]]):
    assert run_network(face, "cpu", by_name=True, precision=None) is face.reference
    expected = face(frames[0])
    assert run_network(face, "cpu", threads=2, by_name=True, precision=None) is not face.reference
    np.testing.assert_allclose(face(frames[0]).boxes, expected.boxes, atol=1e-3)
    assert not face.batches


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
@pytest.mark.parametrize(("precision", "iou"), [(None, 0.95), ("fp32", 0.999)])
def test_openvino_finds_the_same_boxes(
    face: CenterFace, frames: list[NDArray[np.uint8]], precision: Literal["fp32"] | None, iou: float
):
    run_network(face, "openvino", by_name=True, precision=precision)
    assert not face.batches
    first, second = (face(frames[0]) for _ in range(2))
    np.testing.assert_array_equal(first.boxes, second.boxes)
    assert agree(face, [*frames, frames[0][:, :200]], iou)


class InOpenVino(OnnxBackend):
    """A stand-in for OpenVINO; what it computes in bfloat16, or in both precisions, is wrong."""

    opened: list[str]
    wrong: tuple[str, ...]

    def __init__(self, graph: bytes, *, threads: int, bfloat16: bool) -> None:
        super().__init__(graph, threads=threads or 1)
        self.precision = "bf16" if bfloat16 else "f32"
        self.description = f"stand-in, {self.precision}"
        self.opened.append(self.precision)

    def run(self, feeds: Feeds) -> Outputs:
        outputs = super().run(feeds)
        return {name: value * (0.8 if self.precision in self.wrong else 1) for name, value in outputs.items()}


@pytest.mark.parametrize(
    ("wrong", "opened"),
    [((), ["bf16"]), (("bf16",), ["bf16", "f32"]), (("bf16", "f32"), ["bf16", "f32"])],
)
def test_openvino_runs_only_what_passes_the_parity_check(
    face: CenterFace,
    frames: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: tuple[str, ...],
    opened: list[str],
):
    monkeypatch.setattr(InOpenVino, "opened", [], raising=False)
    monkeypatch.setattr(InOpenVino, "wrong", wrong, raising=False)
    monkeypatch.setattr(detector_backend, "OpenVinoBackend", InOpenVino)
    network = run_network(face, "openvino", by_name=False, precision=None)
    assert agree(face, frames[:1], 0.999)
    assert InOpenVino.opened == opened
    refused = [message for message in caplog.messages if "fails the parity check" in message]
    assert len(refused) == len(set(wrong) & set(opened))
    if "f32" in wrong:  # neither: ONNX Runtime, unless OpenVINO was requested by name
        assert "CPUExecutionProvider" in network.description
        run_network(face, "openvino", by_name=True, precision=None)
        with pytest.raises(Unavailable, match=r"f32 fails the parity check \(fp32 differs from"):
            face(frames[0])
    else:
        assert network.description == f"stand-in, {opened[-1]}"


def test_cuda_runs_frames_of_one_size_together(
    face: CenterFace, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
):
    """ONNX Runtime's binding of inputs and outputs works the same way on the CPU."""
    sizes: list[int] = []

    class Counted(BoundBackend):
        def run(self, feeds: Feeds) -> Outputs:
            sizes.append(len(feeds[INPUT]))
            return super().run(feeds)

    monkeypatch.setattr(
        detector_backend, "open_cuda", lambda graph: Counted(open_graph(graph), device="cpu", capture=False)
    )
    run_network(face, "cuda", by_name=True, precision=None)
    assert face.batches
    assert agree(face, frames, 0.999)
    checked = 2 * 3 * [1] + 2 * 3 * [2]  # two batches of each size, three times
    assert sizes == [*checked, 2, 1]


@pytest.mark.parametrize("by_name", [True, False])
def test_cuda_with_other_boxes_is_not_used(
    face: CenterFace,
    frames: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    by_name: bool,
):
    class Wrong(BoundBackend):
        def run(self, feeds: Feeds) -> Outputs:
            return {name: value * 0.8 for name, value in super().run(feeds).items()}

    monkeypatch.setattr(
        detector_backend, "open_cuda", lambda graph: Wrong(open_graph(graph), device="cpu", capture=False)
    )
    run_network(face, "cuda", by_name=by_name, precision=None)
    if by_name:
        with pytest.raises(Unavailable, match="fails the parity check"):
            face(frames[0])
    else:
        assert agree(face, frames[:1], 0.999)
        assert "fails the parity check (fp32 differs" in caplog.text


def test_cuda_that_does_not_start_is_an_error_if_it_was_requested(
    face: CenterFace,
    frames: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def unavailable(_graph: bytes) -> BoundBackend:
        raise Unavailable("cuda", "CUDA did not start", broken=True)

    monkeypatch.setattr(detector_backend, "open_cuda", unavailable)
    run_network(face, "cuda", by_name=True, precision=None)
    with pytest.raises(Unavailable, match="CUDA did not start"):
        face(frames[0])
    network = run_network(face, "cuda", by_name=False, precision=None)
    assert agree(face, frames, 0.999)
    (message,) = caplog.messages
    assert "detector `face` for frames of 320x192: ONNX Runtime" in message
    assert "CUDA did not start" in message
    network.close()
    network.close()


def test_only_the_latest_sizes_stay_open(face: CenterFace):
    closed: list[tuple[int, int]] = []

    class Backend(OnnxBackend):
        def __init__(self, size: tuple[int, int]) -> None:
            super().__init__(face.graph.at_size(size), threads=1)
            self.size = size

        def close(self) -> None:
            closed.append(self.size)

    network = detector_backend.SizedNetwork(face.graph, Backend, batches=False)
    for rows in (32, 64, 96, 128, 160, 32, 64, 192, 224, 256, 288):
        network.run(np.zeros((1, rows, 32, 3), np.uint8))
    assert closed == [(96, 32)]
    network.close()
    assert len(closed) == 9


def test_photos_open_no_backend_for_their_size(face: CenterFace, frames: list[NDArray[np.uint8]]):
    """An engine for each size of a folder of photos would take minutes each."""

    def open_at(size: tuple[int, int]) -> OnnxBackend:
        raise AssertionError(f"opened for {size}")

    face.network = detector_backend.SizedNetwork(face.graph, open_at, batches=True)
    photos = [frames[0], frames[0][:100]]
    found = face.find_all(photos, photos=True)
    face.network = face.reference
    for expected, each in zip(face.find_all(photos), found, strict=True):
        np.testing.assert_array_equal(each.boxes, expected.boxes)
    assert len(found[0].boxes)


def store(
    cache: Cache,
    detector: NetworkDetector,
    content: bytes | None = None,
    checked_on: str = GPU.with_driver,
    size: tuple[int, int] = SIZE,
) -> None:
    key = detector_key(detector.graph, size, "ladder", builder=f"tensorrt{VERSION}", gpu=GPU)
    content = content or detector.graph.at_size(size)
    engines.store_engine(cache.folder, content, sidecar(key, content, checked_on))


def without_colours(face: CenterFace) -> bytes:
    """Return the graph with the order of the colours reversed."""
    model = onnx.load_from_string(face.graph.at_size(SIZE))
    (order,) = [node for node in model.graph.node if node.op_type == "Constant"]
    order.attribute[0].t.CopyFrom(onnx.helper.make_tensor("", onnx.TensorProto.INT64, [3], [0, 1, 2]))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("by_name", [True, False])
def test_engines_come_from_the_cache_and_are_checked_once(
    cache: Cache, face: CenterFace, frames: list[NDArray[np.uint8]], *, by_name: bool
):
    store(cache, face, checked_on="")
    run_network(face, "tensorrt", by_name=by_name, precision=None)
    assert face.batches
    face(frames[0])
    (stored,) = engines.read_sidecars(cache.folder)
    assert stored.checked_on == GPU.with_driver
    assert [row.frames for row in stored.parity] == [1, 2]
    assert agree(face, frames, 0.999)


def test_an_engine_with_other_boxes_is_rejected_and_not_used(
    cache: Cache, face: CenterFace, frames: list[NDArray[np.uint8]], caplog: pytest.LogCaptureFixture
):
    store(cache, face, without_colours(face), "")
    run_network(face, "tensorrt", by_name=False, precision=None)
    assert agree(face, frames, 0.999)
    (message,) = caplog.messages
    assert "the engine of face_320x192 fails the parity check on this GPU" in message
    assert "emotion-export trt --detector face --frame-size 320x192 --detector-size 320" in message
    assert engines.read_sidecars(cache.folder) == []


def test_a_gpu_that_the_encoders_have_filled_leaves_the_detector_to_the_cpu(
    cache: Cache,
    face: CenterFace,
    frames: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def full(*_: object, **__: object) -> Backend:
        raise EmotionError("CUDA: cuMemAlloc_v2 failed with CUDA_ERROR_OUT_OF_MEMORY")

    store(cache, face)
    monkeypatch.setattr(open_engines, "TensorRTBackend", full)
    run_network(face, "tensorrt", by_name=False, precision=None)
    assert agree(face, frames, 0.999)
    (message,) = caplog.messages
    assert "CPUExecutionProvider" in message
    assert "CUDA_ERROR_OUT_OF_MEMORY" in message
    run_network(face, "tensorrt", by_name=True, precision=None)
    with pytest.raises(Unavailable, match="CUDA_ERROR_OUT_OF_MEMORY"):
        face(frames[0])


@pytest.mark.usefixtures("no_builder")
def test_without_a_builder_a_missing_engine_is_an_error_with_the_command(
    face: CenterFace, frames: list[NDArray[np.uint8]]
):
    run_network(face, "tensorrt", by_name=True, precision="fp32")
    command = "emotion-export trt --detector face --frame-size 320x192 --detector-size 320 --flavor tensorrt"
    with pytest.raises(Unavailable, match=rf"no engine of face_320x192 .*{command} --precision fp32"):
        face(frames[0])


def test_onnx_runtime_finds_people_while_the_engine_is_built(
    cache: Cache,
    face: CenterFace,
    frames: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    go, commands = threading.Event(), list[list[str]]()

    def build(command: list[str]) -> None:
        commands.append(command)
        assert go.wait(SECONDS)
        store(cache, face)

    monkeypatch.setattr(build_client, "run_builder", build)
    run_network(face, "tensorrt", by_name=True, precision=None, live=True)
    with caplog.at_level(logging.INFO):
        before = face(frames[0])
        go.set()
        (thread,) = [each for each in threading.enumerate() if each.name == "tensorrt engines"]
        thread.join(SECONDS)
        after = [face(frames[0]) for _ in range(2)]
    assert commands[0][3:9] == ["trt", "--detector", "face", "--frame-size", "320x192", "--detector-size"]
    assert any("switching from ONNX Runtime" in message for message in caplog.messages)
    for each in after:
        np.testing.assert_allclose(each.boxes, before.boxes, atol=1e-2)


def test_an_engine_that_sorts_almost_equal_boxes_in_another_order_takes_over(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    detector = sorted_rows(tmp_path / "sorted.onnx")
    exchanged = sorted_rows(tmp_path / "exchanged.onnx", exchanged=True).graph.at_size((64, 64))
    image, go = np.zeros((64, 64, 3), np.uint8), threading.Event()

    def build(_command: list[str]) -> None:
        assert go.wait(SECONDS)
        store(cache, detector, exchanged, "", (64, 64))

    monkeypatch.setattr(build_client, "run_builder", build)
    network = run_network(detector, "tensorrt", by_name=True, precision=None, live=True)
    with caplog.at_level(logging.INFO):
        detector(image)
        go.set()
        (thread,) = [each for each in threading.enumerate() if each.name == "tensorrt engines"]
        thread.join(SECONDS)
        assert len(detector(image).boxes) == 1
    assert network.description == "engine"


def test_a_file_waits_for_the_engine_of_its_detector(
    cache: Cache,
    face: CenterFace,
    frames: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(build_client, "run_builder", lambda _command: store(cache, face))
    run_network(face, "tensorrt", by_name=True, precision=None)
    assert agree(face, frames[:1], 0.999)
