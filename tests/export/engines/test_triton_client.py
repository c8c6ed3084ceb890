"""The example client of a Triton server, served by a stand-in."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from exported import ROOT, load_module
from google.protobuf import json_format
from safetensors.numpy import save_file
from triton_configs import config, tensors

from emotion_runtime.backends.onnx import open_session
from emotion_runtime.bundle import load_bundle, sha256_of
from emotion_runtime.runtime import EmotionRuntime

DATATYPES = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}


class Server:
    """Serves a repository over the interface of `tritonclient.http`, by the rules of each configuration."""

    def __init__(self, schema: ModuleType, repository: Path) -> None:
        self.configs = {folder.name: config(schema, folder) for folder in repository.iterdir()}
        self._schema = schema
        self._sessions = {
            name: open_session(repository / name / "1" / "model.onnx", name=name, fix="none")
            for name in self.configs
        }

    def get_model_config(self, model: str) -> dict[str, Any]:
        if model not in self.configs:
            raise ServerError(f"Request for unknown model: '{model}' is not found")
        return json_format.MessageToDict(self.configs[model], preserving_proto_field_name=True)

    def infer(self, model: str, inputs: list["InferInput"]) -> "Result":
        stated = tensors(self._schema, self.configs[model].input)
        assert {value.name for value in inputs} == set(stated)
        assert len({value.shape[0] for value in inputs}) == 1, "one batch size for all inputs"
        for value in inputs:
            dtype, dims = stated[value.name]
            assert value.datatype == DATATYPES[dtype]
            assert value.shape[1:] == dims
            assert 1 <= value.shape[0] <= self.configs[model].max_batch_size
        session = self._sessions[model]
        names = [output.name for output in session.get_outputs()]
        return Result(dict(zip(names, session.run(names, {v.name: v.value for v in inputs}), strict=True)))


class ServerError(Exception):
    """Of `tritonclient.utils`."""


class InferInput:
    def __init__(self, name: str, shape: list[int], datatype: str) -> None:
        self.name, self.shape, self.datatype = name, shape, datatype

    def set_data_from_numpy(self, value: np.ndarray) -> None:
        assert list(value.shape) == self.shape
        assert DATATYPES[value.dtype.name] == self.datatype
        self.value = value


class Result:
    def __init__(self, outputs: dict[str, np.ndarray]) -> None:
        self._outputs = outputs

    def get_response(self) -> dict[str, Any]:
        return {"outputs": [{"name": name} for name in self._outputs]}

    def as_numpy(self, name: str) -> np.ndarray:
        return self._outputs[name]


@pytest.fixture
def client(
    schema: ModuleType, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[str]], int]:
    """`main` of the client, with a server to talk to."""
    server = Server(schema, repository)
    http = SimpleNamespace(InferenceServerClient=lambda **_: server, InferInput=InferInput)
    utils = SimpleNamespace(InferenceServerException=ServerError)
    package = SimpleNamespace(http=http, utils=utils)
    for name, module in (("", package), (".http", http), (".utils", utils)):
        monkeypatch.setitem(sys.modules, f"tritonclient{name}", module)
    main: Callable[[list[str]], int] = load_module(ROOT / "export" / "triton_client.py").main
    return main


def test_the_client_gives_the_same_results_as_the_runtime(client: Callable[[list[str]], int], tmp_path: Path):
    out = tmp_path / "events.jsonl"
    assert client(["--max-frames", "20", "--jsonl", str(out)]) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(found) == 20
    expected = list(zip(range(20), EmotionRuntime(backend="cpu").stream("demo"), strict=False))
    for event, (_, other) in zip(found, expected, strict=True):
        assert [person["id"] for person in event["persons"]] == [person.id for person in other.persons]
        for person, twin in zip(event["persons"], other.persons, strict=True):
            assert person["emotions"] == pytest.approx(twin.emotions, abs=1e-4)
    assert found[-1]["persons"]


def test_the_client_gives_valence_if_the_bundle_has_a_head_for_it(
    client: Callable[[list[str]], int], tmp_path: Path
):
    """A head whose weights are nothing, so that its bias is what everybody feels."""
    folder, out = Path(shutil.copytree(load_bundle("nano").folder, tmp_path / "nano")), tmp_path / "events"
    head = {"weight": np.zeros((2, 256), np.float32), "bias": np.array([0.25, -0.5], np.float32)}
    save_file(head, folder / "affect.safetensors")
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["heads"]["vad"] = manifest["heads"]["probe"] | {
        "file": "affect.safetensors",
        "sha256": sha256_of(folder / "affect.safetensors"),
        "labels": ["valence", "arousal"],
        "activation": "identity",
        "temperature": 1.0,
    }
    manifest["affect_head"] = "vad"
    (folder / "bundle.json").write_text(json.dumps(manifest))
    assert client(["--bundle", str(folder), "--max-frames", "20", "--jsonl", str(out)]) == 0
    (*_, last) = map(json.loads, out.read_text().splitlines())
    assert {(person["valence"], person["arousal"]) for person in last["persons"]} == {(0.25, -0.5)}


def test_a_server_without_the_model_is_one_line(
    client: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "other"
    shutil.copytree(load_bundle("nano").folder, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**manifest, "name": "other"}))
    assert client(["--bundle", str(folder)]) == 2
    line, end = capsys.readouterr().err.split("\n")
    assert line.startswith("triton_client: error: Triton cannot run other_frame_encoder (Request for")
    assert not end


def test_without_tritonclient(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    assert load_module(ROOT / "export" / "triton_client.py").main([]) == 2
    assert 'pip install "tritonclient[http]"' in capsys.readouterr().err
