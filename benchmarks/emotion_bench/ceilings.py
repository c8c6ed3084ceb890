"""Bounds of the machine, measured in the same run as what is compared with them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from emotion_runtime.backends.onnx import open_session


class Sgemm:
    """A product of two square float32 matrices in ONNX Runtime, set up like the encoders.

    It shows what the machine can multiply in float32. Encoders are matrix products for 94 % and more of their
    operations, so none exceeds this rate for long.
    """

    def __init__(self, side: int = 1536) -> None:
        self.flops = 2 * side**3
        rng = np.random.default_rng(0)
        weight = numpy_helper.from_array(rng.standard_normal((side, side), np.float32), "w")
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [side, side]) for name in ("x", "y"))
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], "sgemm", [x], [y], [weight]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        self._session = open_session(model.SerializeToString(), name="sgemm", fix="reinstall onnxruntime")
        self._feeds = {"x": rng.standard_normal((side, side), np.float32)}

    def __call__(self) -> None:
        """Multiply once."""
        self._session.run(None, self._feeds)
