"""Kernel timings that a build keeps for the next one."""

from dataclasses import replace
from pathlib import Path

import pytest
from onnx import helper
from trt_stand_ins import graph_of

from emotion_export.tensorrt import Builder, build_engine
from emotion_runtime.backends.buckets import Limits

pytestmark = pytest.mark.slow


def test_a_timing_cache_is_kept_and_a_broken_one_is_replaced(rtx: Builder, tmp_path: Path):
    """That of TensorRT-RTX is empty and deprecated, but its interface is that of TensorRT."""
    builder = replace(rtx, timing_cache=tmp_path / "timings.cache")
    model = graph_of([helper.make_node("Relu", ["x"], ["y"])], input_shape=[2, 2])
    with pytest.warns(DeprecationWarning, match="no-ops in TensorRT-RTX"):
        build_engine(builder, model, "relu", Limits())
    kept = builder.timing_cache.read_bytes()
    assert kept
    builder.timing_cache.write_bytes(b"no cache")
    with pytest.warns(DeprecationWarning, match="no-ops in TensorRT-RTX"):
        build_engine(builder, model, "relu", Limits())
    assert builder.timing_cache.read_bytes() == kept


def test_a_timing_cache_that_is_refused_does_not_cost_the_engine(
    rtx: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As TensorRT does with one of another GPU: nothing is set, and nothing is there after the build."""
    builder = replace(rtx, timing_cache=tmp_path / "timings.cache")
    builder.timing_cache.write_bytes(b"of another GPU")
    model = graph_of([helper.make_node("Relu", ["x"], ["y"])], input_shape=[2, 2])
    offered: list[object] = []

    def refuse_first(_config: object, cache: object, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        offered.append(cache)
        return len(offered) > 1

    config = rtx.library.IBuilderConfig
    monkeypatch.setattr(config, "set_timing_cache", refuse_first)
    monkeypatch.setattr(config, "get_timing_cache", lambda _: offered[1] if len(offered) > 1 else None)
    with pytest.warns(DeprecationWarning, match="no-ops in TensorRT-RTX"):
        assert build_engine(builder, model, "relu", Limits())[0]
    assert builder.timing_cache.read_bytes() != b"of another GPU"


def test_an_engine_is_kept_where_its_timings_cannot_be(
    rtx: Builder, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").touch()
    builder = replace(rtx, timing_cache=tmp_path / "file" / "timings.cache")
    model = graph_of([helper.make_node("Relu", ["x"], ["y"])], input_shape=[2, 2])
    with pytest.warns(DeprecationWarning, match="no-ops in TensorRT-RTX"):
        assert build_engine(builder, model, "relu", Limits())[0]
    (line,) = caplog.messages
    assert "timings.cache cannot be written (File exists" in line
