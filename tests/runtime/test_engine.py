"""The TensorRT backend with stand-ins for CUDA and TensorRT."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_stand_in import Context, Cuda, D, Engine, Library, T

from emotion_runtime.errors import EmotionError, EngineRejected
from emotion_runtime.tensorrt.engine import TensorRTBackend


@pytest.fixture
def cuda() -> Cuda:
    return Cuda()


@pytest.fixture
def engine(cuda: Cuda) -> Engine:
    return Engine(cuda)


@pytest.fixture
def backend(cuda: Cuda, engine: Engine) -> TensorRTBackend:
    return TensorRTBackend(b"engine", flavor="tensorrt", library=Library(engine), driver=cuda)


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
        "use",
        "cuStreamBeginCapture_v2",
        "cuMemcpyHtoDAsync_v2",
        "cuMemcpyDtoHAsync_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuStreamSynchronize",
    ]
    cuda.calls.clear()
    backend.run(clips(2))
    assert cuda.calls == ["use", "cuGraphLaunch", "cuStreamSynchronize"]


def test_each_batch_size_has_its_context_and_all_share_the_memory(
    backend: TensorRTBackend, cuda: Cuda, engine: Engine
):
    allocated = len(cuda.blocks.blocks), len(cuda.pinned.blocks)
    for persons in (1, 2, 4, 8, 4, 2, 1):
        backend.run(clips(persons))
    assert (len(cuda.blocks.blocks), len(cuda.pinned.blocks)) == allocated == (3, 2)
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
    assert not cuda.blocks.blocks
    assert not cuda.pinned.blocks
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
    library = Library(None)  # TensorRT returns None, logs the reason and raises nothing
    reason = r"is too old \(\[E\] Serialized engine version does not match\)"
    with pytest.raises(
        EmotionError, match=rf"cannot be loaded by tensorrt 10\.3\.0 .* on Test GPU.*{reason}"
    ) as error:
        TensorRTBackend(b"corrupt", flavor="tensorrt", library=library, driver=cuda)
    assert library.given == [b"corrupt"]
    assert "emotion-export trt" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("function", ["cuMemAlloc_v2", "cuMemHostAlloc", "cuStreamCreate"])
def test_full_memory_is_a_one_line_error(engine: Engine, function: str):
    cuda = Cuda(fail=function)
    engine.cuda = cuda
    with pytest.raises(EmotionError, match=f"CUDA: {function} failed with CUDA_ERROR_OUT_OF_MEMORY"):
        TensorRTBackend(b"", flavor="tensorrt", library=Library(engine), driver=cuda)
    assert_nothing_held(cuda)


@pytest.mark.parametrize("nth", range(1, 4))
def test_a_failed_allocation_frees_the_earlier_ones(
    cuda: Cuda, engine: Engine, monkeypatch: pytest.MonkeyPatch, nth: int
):
    """The nth allocation of scratch memory, input and output fails."""
    allocate, requested = cuda.blocks.allocate, []

    def few(size: int) -> int:
        requested.append(size)
        if len(requested) == nth:
            raise EmotionError("CUDA: out of memory")
        return allocate(size)

    monkeypatch.setattr(cuda.blocks, "allocate", few)
    with pytest.raises(EmotionError, match="out of memory"):
        TensorRTBackend(b"", flavor="tensorrt", library=Library(engine), driver=cuda)
    assert len(requested) == nth
    assert_nothing_held(cuda)


def test_no_memory_for_a_context_is_a_one_line_error(cuda: Cuda, engine: Engine, backend: TensorRTBackend):
    engine.full = True  # TensorRT returns None and raises nothing
    with pytest.raises(EmotionError, match=r"on Test GPU .* has no memory for another batch size"):
        backend.run(clips(2))
    backend.close()
    with pytest.raises(EmotionError, match="has no memory"):
        TensorRTBackend(b"", flavor="tensorrt", library=Library(engine), driver=cuda)
    assert_nothing_held(cuda)


FAULTS = ["invalidated", "refused", "cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"]


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


def test_a_backend_runs_and_closes_in_another_thread(backend: TensorRTBackend, cuda: Cuda):
    """An engine is opened in the background; a context of CUDA is current in one thread only."""
    feed = clips(2)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(backend.run, feed).result()["features"]
    np.testing.assert_allclose(found, feed["embeddings"].sum(axis=1), rtol=1e-6)
    backend.close()
    assert_nothing_held(cuda)


def rtx(cuda: Cuda, engine: Engine, kernels: Path | None = None, validity: tuple[int, int] = (0, 0)) -> Any:
    return TensorRTBackend(
        b"engine", flavor="tensorrt-rtx", kernels=kernels, library=Library(engine, validity), driver=cuda
    )


def test_rtx_compiles_before_a_graph_is_captured_and_keeps_the_kernels(
    cuda: Cuda, engine: Engine, tmp_path: Path
):
    kernels = tmp_path / "engine.kernels"
    backend = rtx(cuda, engine, kernels)
    assert engine.settings is not None
    assert engine.settings.dynamic_shapes_kernel_specialization_strategy == "eager"
    assert engine.settings.strategy == "user"
    backend.run(clips(2))
    engine.settings.kernels = b"kernels of one person and two"
    backend.close()
    assert kernels.read_bytes() == b"kernels of one person and two"
    rtx(cuda, engine, kernels)
    assert engine.settings.kernels == b"kernels of one person and two"
    kernels.write_bytes(b"of another driver")  # TensorRT checks them
    rtx(cuda, engine, kernels).close()
    assert engine.settings.kernels == b""
    assert kernels.read_bytes() == b"of another driver"  # nothing was compiled


def test_kernels_that_cannot_be_kept_are_one_warning(
    cuda: Cuda, engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").touch()
    backend = rtx(cuda, engine, tmp_path / "file" / "engine.kernels")
    backend.run(clips(2))
    backend.close()
    (message,) = caplog.messages
    assert message.startswith("compiled kernels were not saved")
    assert_nothing_held(cuda)


def test_rtx_says_why_an_engine_is_not_valid(cuda: Cuda, engine: Engine):
    with pytest.raises(
        EngineRejected, match=r"not valid for .* \(version mismatch, old cuda driver\)"
    ) as error:
        rtx(cuda, engine, validity=(2, 1 | 4))
    assert "emotion-export trt" in str(error.value)
    assert "\n" not in str(error.value)


def test_rtx_warns_of_an_engine_that_is_slow_here(
    cuda: Cuda, engine: Engine, caplog: pytest.LogCaptureFixture
):
    rtx(cuda, engine, validity=(1, 2)).close()
    (message,) = caplog.messages
    assert "slower than one that is built here (unsupported cc)" in message


def test_an_engine_that_rtx_cannot_capture_runs_without_a_graph(
    cuda: Cuda, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(Context, "is_stream_capturable", lambda _self, _stream: False, raising=False)
    backend = rtx(cuda, engine)
    for turn in range(3):
        feed = clips(2, seed=turn)
        np.testing.assert_allclose(backend.run(feed)["features"], feed["embeddings"].sum(axis=1), rtol=1e-6)
    assert "cuStreamBeginCapture_v2" not in cuda.calls
    (message,) = caplog.messages
    assert "the engine allocates memory while it runs" in message


def test_a_tensorrt_that_is_newer_than_the_driver_is_named_with_the_fix(
    cuda: Cuda, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """Its bindings raise TypeError, and error 35 stands in a message of TensorRT."""

    def fails(_self: Library, _logger: object) -> Any:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(Library, "Runtime", fails)
    with pytest.raises(
        EmotionError, match=r"does not start on this driver, which supports CUDA 12\.6"
    ) as error:
        TensorRTBackend(b"", flavor="tensorrt", library=Library(engine), driver=cuda)
    assert "tensorrt-cu12" in str(error.value)
    assert "\n" not in str(error.value)
