"""The TensorRT backend with stand-ins for CUDA and TensorRT."""

from typing import Any

import numpy as np
import pytest
from cuda_stand_in import Cuda, D, Engine, Library, T

from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt.engine import TensorRTBackend


@pytest.fixture
def cuda() -> Cuda:
    return Cuda()


@pytest.fixture
def engine(cuda: Cuda) -> Engine:
    return Engine(cuda)


@pytest.fixture
def backend(cuda: Cuda, engine: Engine) -> TensorRTBackend:
    return TensorRTBackend(b"engine", flavor="tensorrt", library=Library(engine), cuda=cuda)


def clips(persons: int, seed: int = 0) -> dict[str, Any]:
    return {"embeddings": np.random.default_rng(seed).random((persons, T, D), np.float32)}


def test_the_description_names_library_and_gpu(backend: TensorRTBackend):
    assert backend.description.startswith("tensorrt 10.3.0 ")
    assert backend.description.endswith(" on Test GPU (8 multiprocessors, 7 GiB)")
    assert backend.layer_information() == '{"form": "json"}'


def test_every_run_returns_what_the_engine_computes(backend: TensorRTBackend):
    """The first, the captured and the replayed run of each batch size, each with other values."""
    kept = []
    for turn in range(4):
        for persons in (1, 8, 2, 4):
            feed = clips(persons, seed=10 * turn + persons)
            features = backend.run(feed)["features"]
            np.testing.assert_allclose(features, feed["embeddings"].sum(axis=1), rtol=1e-6)
            kept.append((features, features.copy()))
    for features, copy in kept:  # later runs did not change the returned arrays
        np.testing.assert_array_equal(features, copy)


def test_a_recurring_batch_size_is_one_launch(backend: TensorRTBackend, cuda: Cuda):
    backend.run(clips(2))
    cuda.calls.clear()
    backend.run(clips(2))
    assert cuda.calls == [
        "cudaStreamBeginCapture",
        "cudaMemcpyAsync",
        "cudaMemcpyAsync",
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
        "cudaGraphDestroy",
        "cudaGraphLaunch",
        "cudaStreamSynchronize",
    ]
    cuda.calls.clear()
    backend.run(clips(2))
    assert cuda.calls == ["cudaGraphLaunch", "cudaStreamSynchronize"]


def test_each_batch_size_has_its_context_and_all_share_the_memory(
    backend: TensorRTBackend, cuda: Cuda, engine: Engine
):
    allocated = len(cuda.device.blocks), len(cuda.host.blocks)
    for persons in (1, 2, 4, 8, 4, 2, 1):
        backend.run(clips(persons))
    assert (len(cuda.device.blocks), len(cuda.host.blocks)) == allocated == (3, 2)
    ran = [context for context in engine.contexts if context.runs]
    assert sorted(context.shape[0] for context in ran) == [1, 2, 4, 8]
    assert len({context.scratch for context in engine.contexts}) == 1


def test_close_frees_everything(backend: TensorRTBackend, cuda: Cuda):
    for persons in (1, 1, 2):
        backend.run(clips(persons))
    backend.close()
    assert_nothing_held(cuda)
    backend.close()  # does not free anything twice


def assert_nothing_held(cuda: Cuda) -> None:
    assert not cuda.device.blocks
    assert not cuda.host.blocks
    assert not cuda.streams
    assert not cuda.graphs


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((9, T, D), np.float32), r"float32 \(9, 4, 3\), but the engine was built for float32"),
        (np.zeros((0, T, D), np.float32), r"\(0, 4, 3\)"),
        (np.zeros((2, T, D + 1), np.float32), r"\(2, 4, 4\)"),
        (np.zeros((2, T), np.float32), r"\(2, 4\)"),
        (np.zeros((2, T, D), np.float64), r"float64 \(2, 4, 3\)"),
    ],
)
def test_an_input_outside_the_profile_is_a_one_line_error(
    backend: TensorRTBackend, value: np.ndarray, words: str
):
    with pytest.raises(EmotionError, match=rf"input embeddings is .*{words}") as error:
        backend.run({"embeddings": value})
    assert "\n" not in str(error.value)
    assert "--max-persons" in str(error.value)
    feed = clips(2)
    np.testing.assert_allclose(backend.run(feed)["features"], feed["embeddings"].sum(axis=1), rtol=1e-6)


def test_the_error_for_an_engine_that_cannot_be_loaded_has_the_fix(cuda: Cuda):
    library = Library(None)  # TensorRT returns None and raises nothing
    with pytest.raises(EmotionError, match=r"cannot be loaded by tensorrt 10\.3\.0 .* on Test GPU") as error:
        TensorRTBackend(b"corrupt", flavor="tensorrt", library=library, cuda=cuda)
    assert library.given == [b"corrupt"]
    assert "emotion-export trt" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_gpu_is_a_one_line_error(engine: Engine):
    with pytest.raises(EmotionError, match=r"no usable GPU found \(CUDA reports no device\)"):
        TensorRTBackend(b"", flavor="tensorrt", library=Library(engine), cuda=Cuda(devices=0))


@pytest.mark.parametrize("function", ["cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags"])
def test_full_memory_is_a_one_line_error(engine: Engine, function: str):
    cuda = Cuda(fail=function)
    engine.cuda = cuda
    with pytest.raises(EmotionError, match=f"CUDA: {function} failed with cudaErrorMemoryAllocation"):
        TensorRTBackend(b"", flavor="tensorrt", library=Library(engine), cuda=cuda)
    assert_nothing_held(cuda)


@pytest.mark.parametrize("nth", range(1, 4))
def test_a_failed_allocation_frees_the_earlier_ones(
    cuda: Cuda, engine: Engine, monkeypatch: pytest.MonkeyPatch, nth: int
):
    """The nth allocation of scratch memory, input and output fails."""
    allocate, requested = cuda.device.allocate, []

    def few(size: int) -> int:
        requested.append(size)
        if len(requested) == nth:
            raise EmotionError("CUDA: out of memory")
        return allocate(size)

    monkeypatch.setattr(cuda.device, "allocate", few)
    with pytest.raises(EmotionError, match="out of memory"):
        TensorRTBackend(b"", flavor="tensorrt", library=Library(engine), cuda=cuda)
    assert len(requested) == nth
    assert_nothing_held(cuda)


def test_no_memory_for_a_context_is_a_one_line_error(cuda: Cuda, engine: Engine, backend: TensorRTBackend):
    engine.full = True  # TensorRT returns None and raises nothing
    with pytest.raises(EmotionError, match=r"on Test GPU .* has no memory for another batch size"):
        backend.run(clips(2))
    backend.close()
    with pytest.raises(EmotionError, match="has no memory"):
        TensorRTBackend(b"", flavor="tensorrt", library=Library(engine), cuda=cuda)
    assert_nothing_held(cuda)


FAULTS = ["invalidated", "refused", "cudaStreamBeginCapture", "cudaGraphInstantiate"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_size_that_cannot_be_captured_runs_without_a_graph(
    backend: TensorRTBackend, cuda: Cuda, engine: Engine, caplog: pytest.LogCaptureFixture, fault: str
):
    """A third person who comes into the picture must not end the run."""
    backend.run(clips(2))
    cuda.invalidated = fault == "invalidated"
    engine.refuses = "in a capture" if fault == "refused" else ""
    cuda.fail = fault
    for turn in range(3):
        feed = clips(2, seed=turn)
        np.testing.assert_allclose(backend.run(feed)["features"], feed["embeddings"].sum(axis=1), rtol=1e-6)
        assert cuda.captured is None
    (message,) = caplog.messages
    assert "no CUDA graph for inputs ((2, 4, 3),)" in message
    assert "\n" not in message
    # Other sizes are captured all the same.
    cuda.invalidated, engine.refuses, cuda.fail = False, "", ""
    for turn in range(3):
        feed = clips(4, seed=turn)
        np.testing.assert_allclose(backend.run(feed)["features"], feed["embeddings"].sum(axis=1), rtol=1e-6)
    assert len(cuda.graphs) == 1
    backend.close()
    assert_nothing_held(cuda)


def test_an_engine_that_is_not_enqueued_is_a_one_line_error(backend: TensorRTBackend, engine: Engine):
    engine.refuses = "always"
    with pytest.raises(EmotionError, match="did not enqueue the engine") as error:
        backend.run(clips(2))
    assert "\n" not in str(error.value)
