"""The text tower as a graph."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exported import Exported, error_line
from torch.nn import functional as F

import emotion_export.text
from emotion_export.graphs import GraphSource
from emotion_export.onnx import OPSET, describe_graph, write_graph
from emotion_train.language.tokenizer import tokenize

pytestmark = pytest.mark.slow

Main = Callable[[list[str]], int]
SENTENCES = ["I am so happy!", "", "go away " * 60, "Why did nobody tell me about this before?", "sad"]


@pytest.fixture(scope="module")
def tower(small: Exported, tmp_path_factory: pytest.TempPathFactory, to_onnx: Main) -> Path:
    out = tmp_path_factory.mktemp("text") / "deep" / "text_encoder.onnx"
    assert to_onnx(["--checkpoint", str(small.checkpoint), "--text-tower", "--out", str(out)]) == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    return out


def test_sentences_of_any_number_and_length_as_torch_has_them(small: Exported, tower: Path):
    """torch computes no padding; the graph, whose size is fixed, does."""
    session = onnxruntime.InferenceSession(tower)
    for count in (1, 2, 5):
        tokens = tokenize(SENTENCES[:count])
        (found,) = session.run(["features"], {"tokens": tokens.numpy()})
        assert found.shape == (count, small.model.config.embed_dim)
        np.testing.assert_allclose(found, small.model.encode_text(tokens).numpy(), atol=2e-5)


def test_each_sentence_is_read_at_its_end(tower: Path):
    """What stands behind the end token changes nothing, what stands before it does."""
    session = onnxruntime.InferenceSession(tower)
    tokens = tokenize(["a long day"]).numpy()
    end = int(tokens.argmax())
    behind, before = tokens.copy(), tokens.copy()
    behind[0, end + 1] = 17
    before[0, end - 1] = 17
    plain, after, changed = (session.run(None, {"tokens": each})[0] for each in (tokens, behind, before))
    np.testing.assert_array_equal(plain, after)
    assert np.abs(plain - changed).max() > 1e-2


def test_with_the_vision_graphs_it_is_the_zero_shot_head(small: Exported, tower: Path):
    """A class's embedding made by the graph is the row of the bundle's bank, up to its length."""
    from safetensors.numpy import load_file  # noqa: PLC0415 - this test only

    from emotion_train.language.phrases import EKMAN_PHRASES, TEMPLATES  # noqa: PLC0415 - this test only

    bank = load_file(small.folder / "zero_shot.safetensors")["weight"]
    prompts = [template.format(phrase) for phrase in EKMAN_PHRASES["fear"] for template in TEMPLATES]
    (features,) = onnxruntime.InferenceSession(tower).run(None, {"tokens": tokenize(prompts).numpy()})
    row = F.normalize(F.normalize(torch.from_numpy(features), dim=-1).mean(0), dim=0).numpy()
    np.testing.assert_allclose(row, bank[list(EKMAN_PHRASES).index("fear")], atol=1e-5)


def test_the_file_describes_itself(tower: Path):
    graph = describe_graph(tower)
    assert [(t.name, t.dtype, t.shape) for t in graph.inputs] == [("tokens", "int64", ["B", 77])]
    assert [(t.name, t.dtype, t.shape) for t in graph.outputs] == [("features", "float32", ["B", 256])]
    assert graph.opset == OPSET


def test_a_graph_that_is_not_the_tower_is_refused(
    small: Exported,
    tmp_path: Path,
    to_onnx: Main,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def write_without_mask(source: GraphSource, path: Path) -> None:
        """Attention that sees later words, as when a causal mask is lost."""
        write_graph(source, path)
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype == np.float32 and np.isneginf(values).any():
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(values), tensor.name))
        onnx.save(model, path)

    monkeypatch.setattr(emotion_export.text, "write_graph", write_without_mask)
    out = tmp_path / "new" / "text.onnx"
    arguments = ["--checkpoint", str(small.checkpoint), "--text-tower", "--out", str(out)]
    assert to_onnx(arguments) == 2
    line = error_line(capsys, "emotion-export onnx")
    assert "text_encoder.onnx differs from the torch model" in line
    assert not list(tmp_path.iterdir())


def test_bad_arguments(small: Exported, tmp_path: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]):
    for arguments, words in (
        (["--bundle", "nano", "--text-tower", "--out", "text.onnx"], "needs --checkpoint"),
        (["--checkpoint", str(small.checkpoint), "--text-tower", "--out", "folder"], "name of an .onnx file"),
        (["--checkpoint", "absent.pt", "--text-tower", "--out", "text.onnx"], "absent.pt: no such file"),
    ):
        assert to_onnx(arguments) == 2
        assert words in capsys.readouterr().err
    (tmp_path / "is.onnx").mkdir()
    arguments = ["--checkpoint", str(small.checkpoint), "--text-tower", "--out", str(tmp_path / "is.onnx")]
    assert to_onnx(arguments) == 2
    assert "is a folder" in capsys.readouterr().err
