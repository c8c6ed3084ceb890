"""The detector's network runs in OpenVINO with the one core that the runtime has."""

from typing import Any

import numpy as np
import pytest

from bench_detector_backends import candidates
from emotion_runtime.backends.openvino import OpenVinoBackend
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.sources import open_source

openvino = pytest.importorskip("openvino")


def test_openvino_runs_the_network_without_a_core_of_its_own(monkeypatch: pytest.MonkeyPatch):
    face = CenterFace(threads=1, long_side=160)
    OpenVinoBackend(face.graph.at_size((96, 160)), threads=1).close()  # the core of this process exists now

    def second_core(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(openvino, "Core", second_core)
    with open_source("demo") as frames:
        pixels, placement = face.prepare(next(iter(frames)).image)
    opened = candidates(face, face.graph.content)
    found, expected = (
        opened[name](placement.size)(pixels[None]) for name in ("OpenVINO fp32", "ONNX Runtime fp32")
    )
    for output, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(output, other, atol=1e-3)
