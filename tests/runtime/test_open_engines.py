"""Engines from the cache: which are used, which are rejected, which one comes next."""

import errno
import logging
import os
import sys

import msgspec
import numpy as np
import pytest
from engine_stand_ins import (
    GPU,
    REJECTED,
    TENSORRT_SPEC,
    Cache,
    StandIn,
    clips,
    forbid_writing,
    pretend_installed,
    sidecar,
    store_rejected,
)

from emotion_runtime import files, parity
from emotion_runtime.backends.base import Feeds, Outputs, Unavailable
from emotion_runtime.doctor import FAIL, WARN, inference
from emotion_runtime.errors import EmotionError
from emotion_runtime.names import GRAPHS
from emotion_runtime.open_backend import open_encoders
from emotion_runtime.tensorrt import build_client
from emotion_runtime.tensorrt import cache as engines
from emotion_runtime.tensorrt import gpu as nvidia
from emotion_runtime.tensorrt.gpu import Gpu


def test_cached_engines_are_used(cache: Cache):
    for graph in GRAPHS:
        cache.store(graph)
    for name in ("tensorrt", "auto"):
        _, temporal = open_encoders(name, cache.bundle)
        assert temporal.description == "engine"
        expected = np.einsum("t,ptd->pd", [0.1, 0.2, 0.3, 0.4], clips()["embeddings"])
        np.testing.assert_allclose(temporal.run(clips())["features"], expected, atol=1e-6)


def test_without_a_builder_the_error_for_a_missing_engine_is_one_line_with_the_command(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
):
    cache.store("frame_encoder")
    pretend_installed(monkeypatch, {"tensorrt": TENSORRT_SPEC, "emotion_export": None})
    with pytest.raises(Unavailable) as caught:
        open_encoders("tensorrt", cache.bundle)
    assert str(caught.value) == (
        "backend tensorrt: no engine of temporal_encoder (not built yet): emotion-export trt "
        f"--bundle {cache.bundle.folder} --flavor tensorrt, or use --backend cpu"
    )


def test_auto_builds_nothing_and_logs_the_command(cache: Cache, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        frame, _ = open_encoders("auto", cache.bundle)
    assert "CPUExecutionProvider" in frame.description
    (message,) = caplog.messages
    assert f"emotion-export trt --bundle {cache.bundle.folder} --flavor tensorrt;" in message


@pytest.mark.parametrize(("builder", "state"), [([sys.executable], WARN), (None, FAIL)])
def test_the_doctor_builds_nothing(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, builder: list[str] | None, state: str
):
    monkeypatch.setattr(build_client, "builder_command", lambda *_: builder)
    monkeypatch.setattr(build_client, "run_builder", None)
    (finding,) = inference.backend(str(cache.bundle.folder), "tensorrt")
    assert finding.state == state
    assert finding.text == "tensorrt: no engine of frame_encoder (not built yet)"
    assert finding.fix == f"emotion-export trt --bundle {cache.bundle.folder} --flavor tensorrt"


def test_no_gpu_is_unavailable(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    def none() -> Gpu:
        raise EmotionError("no usable GPU found (cudaErrorNoDevice): check the driver with nvidia-smi")

    monkeypatch.setattr(nvidia, "find_gpu", none)
    with pytest.raises(Unavailable) as caught:
        open_encoders("tensorrt", cache.bundle)
    assert str(caught.value) == (
        "backend tensorrt: no usable GPU found (cudaErrorNoDevice): check the driver with nvidia-smi; "
        "or use --backend cpu"
    )


def test_engines_get_only_batch_sizes_they_were_built_for(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    for graph in GRAPHS:
        cache.store(graph)
    sizes: list[int] = []
    run = StandIn.run

    def counted(self: StandIn, feeds: Feeds) -> Outputs:
        sizes.append(len(feeds["embeddings"]))
        return run(self, feeds)

    monkeypatch.setattr(StandIn, "run", counted)
    _, temporal = open_encoders("tensorrt", cache.bundle)
    assert len(temporal.run(clips(22))["features"]) == 22
    assert sizes == [16, 8]


def test_an_engine_built_ahead_of_time_is_checked_once(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    for graph in GRAPHS:
        cache.store(graph, checked_on="")
    open_encoders("tensorrt", cache.bundle)
    for graph in GRAPHS:
        found = engines.find_engine(cache.folder, cache.key(graph))
        assert not isinstance(found, str)
        assert found[0].checked_on == GPU.with_driver
        assert {row.graph for row in found[0].parity} == {graph}
        assert {row.top1_agreement for row in found[0].parity} == {1.0}

    def unexpected(*_: object) -> None:
        raise AssertionError("checked again")

    monkeypatch.setattr(parity, "make_parity_check", unexpected)
    open_encoders("tensorrt", cache.bundle)


@pytest.mark.parametrize(
    "elsewhere",
    [Gpu("Other Test", "8.6", "12.6").with_driver, Gpu("NVIDIA Test", "8.6", "13.0").with_driver],
)
def test_a_check_result_of_another_gpu_or_driver_does_not_count(cache: Cache, elsewhere: str):
    """Two GPUs with the same compute capability share an engine built ahead of time, and its sidecar."""
    cache.store("frame_encoder")
    cache.store("temporal_encoder", checked_on=elsewhere)
    open_encoders("tensorrt", cache.bundle)
    found = engines.find_engine(cache.folder, cache.key("temporal_encoder"))
    assert not isinstance(found, str)
    assert found[0].parity  # the check ran here
    assert found[0].checked_on == GPU.with_driver


@pytest.mark.parametrize("reason", REJECTED)
@pytest.mark.usefixtures("no_builder")
def test_a_rejected_engine_is_reported_and_counts_as_not_built(
    cache: Cache, caplog: pytest.LogCaptureFixture, reason: str
):
    store_rejected(cache, reason)
    with pytest.raises(Unavailable, match=rf"{REJECTED[reason]} .*: emotion-export trt") as caught:
        open_encoders("tensorrt", cache.bundle)
    assert "\n" not in str(caught.value)
    # The command in the message builds only engines that it does not find.
    assert isinstance(engines.find_engine(cache.folder, cache.key("temporal_encoder")), str)
    assert not isinstance(engines.find_engine(cache.folder, cache.key("frame_encoder")), str)
    # "auto" uses another backend, with a warning about the broken one.
    store_rejected(cache, reason)
    with caplog.at_level(logging.INFO):
        assert "CPUExecutionProvider" in open_encoders("auto", cache.bundle)[0].description
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert REJECTED[reason] in record.message


@pytest.mark.parametrize("reason", REJECTED)
@pytest.mark.usefixtures("no_builder")
def test_if_the_best_engine_is_rejected_the_next_one_is_used(
    cache: Cache, caplog: pytest.LogCaptureFixture, reason: str
):
    store_rejected(cache, reason)
    content = cache.bundle.graph_path("temporal_encoder").read_bytes()
    ahead = msgspec.structs.replace(cache.key("temporal_encoder"), gpu="")
    engines.store_engine(cache.folder, content, sidecar(ahead, content, ""))
    _, temporal = open_encoders("tensorrt", cache.bundle)
    expected = np.einsum("t,ptd->pd", [0.1, 0.2, 0.3, 0.4], clips()["embeddings"])
    np.testing.assert_allclose(temporal.run(clips())["features"], expected, atol=1e-6)
    (message,) = caplog.messages
    assert REJECTED[reason] in message
    assert message.endswith(": using another engine")


def test_auto_skips_engines_that_load_but_do_not_run(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    closed: list[StandIn] = []

    def fail(_self: StandIn, _feeds: Feeds) -> Outputs:
        raise RuntimeError("enqueueV3\nfailed")

    def close(self: StandIn) -> None:
        closed.append(self)

    for graph in GRAPHS:
        cache.store(graph)
    monkeypatch.setattr(StandIn, "run", fail)
    monkeypatch.setattr(StandIn, "close", close, raising=False)
    with caplog.at_level(logging.INFO):
        assert "CPUExecutionProvider" in open_encoders("auto", cache.bundle)[0].description
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "engine opens but does not run (enqueueV3 failed)" in record.message
    assert len(closed) == 2


@pytest.mark.usefixtures("no_builder")
def test_a_loaded_engine_is_closed_if_the_other_one_is_missing(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    closed: list[StandIn] = []

    def close(self: StandIn) -> None:
        closed.append(self)

    monkeypatch.setattr(StandIn, "close", close, raising=False)
    cache.store("frame_encoder")
    with pytest.raises(Unavailable, match="no engine of temporal_encoder"):
        open_encoders("tensorrt", cache.bundle)
    store_rejected(cache, "not the model")
    with pytest.raises(Unavailable, match="fails the parity check"):
        open_encoders("tensorrt", cache.bundle)
    assert len(closed) == 3


@pytest.mark.usefixtures("no_builder")
def test_engines_of_a_read_only_cache_are_used(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    """For example engines in the image of a container."""
    for graph in GRAPHS:
        cache.store(graph, checked_on="")
    before = {path: path.read_bytes() for path in cache.folder.iterdir()}
    forbid_writing(cache.folder, monkeypatch)
    for _ in range(2):
        assert open_encoders("tensorrt", cache.bundle)[0].description == "engine"
    assert {path: path.read_bytes() for path in cache.folder.iterdir()} == before


def test_on_a_full_disk_the_engine_runs_and_the_next_start_checks_it_again(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache.store("frame_encoder")
    cache.store("temporal_encoder", checked_on="")
    monkeypatch.setattr(files.os, "fsync", full)
    assert open_encoders("tensorrt", cache.bundle)[0].description == "engine"
    (message,) = caplog.messages
    assert "the result cannot be saved: " in message
    assert "No space left on device" in message
    found = engines.find_engine(cache.folder, cache.key("temporal_encoder"))
    assert not isinstance(found, str)
    assert found[0].checked_on == ""
