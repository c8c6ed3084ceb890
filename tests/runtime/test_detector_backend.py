"""Detectors on the backends of the encoders: equal boxes, engines from the cache, what replaces them."""

from importlib.util import find_spec
from typing import Literal

import numpy as np
import pytest
from found_boxes import agree
from numpy.typing import NDArray

from emotion_runtime import detector_backend
from emotion_runtime.backends.base import Feeds, Outputs, Unavailable
from emotion_runtime.backends.cuda import BoundBackend
from emotion_runtime.backends.onnx import OnnxBackend, open_graph
from emotion_runtime.detector_backend import run_network
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.detectors.graph import INPUT


def test_on_the_cpu_only_the_number_of_threads_is_replaced(
    small_face: CenterFace, small_frames: list[NDArray[np.uint8]]
):
    assert run_network(small_face, "cpu", by_name=True, precision=None) is small_face.reference
    expected = small_face(small_frames[0])
    assert run_network(small_face, "cpu", threads=2, by_name=True, precision=None) is not small_face.reference
    np.testing.assert_allclose(small_face(small_frames[0]).boxes, expected.boxes, atol=1e-3)
    assert not small_face.batches


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
@pytest.mark.parametrize(("precision", "iou"), [(None, 0.95), ("fp32", 0.999)])
def test_openvino_finds_the_same_boxes(
    small_face: CenterFace,
    small_frames: list[NDArray[np.uint8]],
    precision: Literal["fp32"] | None,
    iou: float,
):
    run_network(small_face, "openvino", by_name=True, precision=precision)
    assert not small_face.batches
    first, second = (small_face(small_frames[0]) for _ in range(2))
    np.testing.assert_array_equal(first.boxes, second.boxes)
    assert agree(small_face, [*small_frames, small_frames[0][:, :200]], iou)


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
    small_face: CenterFace,
    small_frames: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: tuple[str, ...],
    opened: list[str],
):
    monkeypatch.setattr(InOpenVino, "opened", [], raising=False)
    monkeypatch.setattr(InOpenVino, "wrong", wrong, raising=False)
    monkeypatch.setattr(detector_backend, "OpenVinoBackend", InOpenVino)
    network = run_network(small_face, "openvino", by_name=False, precision=None)
    assert agree(small_face, small_frames[:1], 0.999)
    assert InOpenVino.opened == opened
    refused = [message for message in caplog.messages if "fails the parity check" in message]
    assert len(refused) == len(set(wrong) & set(opened))
    if "f32" in wrong:  # neither: ONNX Runtime, unless OpenVINO was requested by name
        assert "CPUExecutionProvider" in network.description
        run_network(small_face, "openvino", by_name=True, precision=None)
        with pytest.raises(Unavailable, match=r"f32 fails the parity check \(fp32 differs from"):
            small_face(small_frames[0])
    else:
        assert network.description == f"stand-in, {opened[-1]}"


def test_cuda_runs_frames_of_one_size_together(
    small_face: CenterFace, small_frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
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
    run_network(small_face, "cuda", by_name=True, precision=None)
    assert small_face.batches
    assert agree(small_face, small_frames, 0.999)
    checked = 2 * 3 * [1] + 2 * 3 * [2]  # two batches of each size, three times
    assert sizes == [*checked, 2, 1]


@pytest.mark.parametrize("by_name", [True, False])
def test_cuda_with_other_boxes_is_not_used(
    small_face: CenterFace,
    small_frames: list[NDArray[np.uint8]],
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
    run_network(small_face, "cuda", by_name=by_name, precision=None)
    if by_name:
        with pytest.raises(Unavailable, match="fails the parity check"):
            small_face(small_frames[0])
    else:
        assert agree(small_face, small_frames[:1], 0.999)
        assert "fails the parity check (fp32 differs" in caplog.text


def test_cuda_that_does_not_start_is_an_error_if_it_was_requested(
    small_face: CenterFace,
    small_frames: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def unavailable(_graph: bytes) -> BoundBackend:
        raise Unavailable("cuda", "CUDA did not start", broken=True)

    monkeypatch.setattr(detector_backend, "open_cuda", unavailable)
    run_network(small_face, "cuda", by_name=True, precision=None)
    with pytest.raises(Unavailable, match="CUDA did not start"):
        small_face(small_frames[0])
    network = run_network(small_face, "cuda", by_name=False, precision=None)
    assert agree(small_face, small_frames, 0.999)
    (message,) = caplog.messages
    assert "detector `face` for frames of 320x192: ONNX Runtime" in message
    assert "CUDA did not start" in message
    network.close()
    network.close()


def test_only_the_latest_sizes_stay_open(small_face: CenterFace):
    closed: list[tuple[int, int]] = []

    class Backend(OnnxBackend):
        def __init__(self, size: tuple[int, int]) -> None:
            super().__init__(small_face.graph.at_size(size), threads=1)
            self.size = size

        def close(self) -> None:
            closed.append(self.size)

    network = detector_backend.SizedNetwork(small_face.graph, Backend, batches=False)
    for rows in (32, 64, 96, 128, 160, 32, 64, 192, 224, 256, 288):
        network.run(np.zeros((1, rows, 32, 3), np.uint8))
    assert closed == [(96, 32)]
    network.close()
    assert len(closed) == 9


def test_photos_open_no_backend_for_their_size(small_face: CenterFace, small_frames: list[NDArray[np.uint8]]):
    """An engine for each size of a folder of photos would take minutes each."""

    def open_at(size: tuple[int, int]) -> OnnxBackend:
        raise AssertionError(f"opened for {size}")

    small_face.network = detector_backend.SizedNetwork(small_face.graph, open_at, batches=True)
    photos = [small_frames[0], small_frames[0][:100]]
    found = small_face.find_all(photos, photos=True)
    small_face.network = small_face.reference
    for expected, each in zip(small_face.find_all(photos), found, strict=True):
        np.testing.assert_array_equal(each.boxes, expected.boxes)
    assert len(found[0].boxes)
