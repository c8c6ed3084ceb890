"""On a real Triton server without a GPU: several clients at once, and a server that is killed."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from exported import ROOT, load_module
from triton_server import CLIENT_WHEELS, SERVER_WHEELS, TritonServer, free_port, missing_part, unpacked

from emotion_export.triton import write_repository
from emotion_runtime.backends.base import Feeds
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.runtime import EmotionRuntime

pytestmark = [pytest.mark.slow, pytest.mark.network]

FRAMES = 16
FRAME_ENCODER = "nano_frame_encoder"


@pytest.fixture(scope="module")
def wheels() -> dict[str, Path]:
    """The unpacked server and its client."""
    if missing := missing_part():
        pytest.skip(missing)
    try:
        return {
            "server": unpacked("triton", SERVER_WHEELS),
            "client": unpacked("triton-client", CLIENT_WHEELS),
        }
    except OSError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def nano_bundle() -> Bundle:
    return load_bundle("nano")


@pytest.fixture(scope="module")
def server(
    wheels: dict[str, Path], nano_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("triton")
    write_repository(nano_bundle, folder / "repository")
    (folder / "server").mkdir()
    server = TritonServer(wheels["server"], folder / "repository", folder / "server")
    try:
        server.start()
        server.wait()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def client(wheels: dict[str, Path]) -> Iterator[ModuleType]:
    """The module of the client, with tritonclient."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(wheels["client"])])
        yield load_module(ROOT / "export" / "triton_client.py")


@pytest.fixture(scope="module")
def local(nano_bundle: Bundle) -> Callable[[Feeds], np.ndarray]:
    """The frame encoder in this process."""
    backend = OnnxBackend(nano_bundle.graph_path("frame_encoder"))
    return lambda feeds: backend.run(feeds)["embeddings"]


def people(count: int, seed: int) -> Feeds:
    """Random people, who look at two cameras."""
    rng = np.random.default_rng(seed)
    return {
        "images": rng.integers(0, 256, (2, 112, 112, 3), np.uint8),
        "frame_index": rng.integers(0, 2, count),
        "patch_weights": rng.random((count, 49), np.float32),
    }


def test_several_clients_at_once(
    server: TritonServer, client: ModuleType, nano_bundle: Bundle, local: Callable[[Feeds], np.ndarray]
):
    requests = [[people(1 + (6 * who + i) % 4, 6 * who + i) for i in range(6)] for who in range(6)]
    ready = threading.Barrier(len(requests))

    def run(own: list[Feeds]) -> list[np.ndarray]:
        backend = client.connect(server.url, nano_bundle)("frame_encoder")
        ready.wait()
        return [backend.run(feeds)["embeddings"] for feeds in own]

    with ThreadPoolExecutor(len(requests)) as pool:
        found = list(pool.map(run, requests))
    for own, results in zip(requests, found, strict=True):
        for feeds, embeddings in zip(own, results, strict=True):
            np.testing.assert_allclose(embeddings, local(feeds), atol=1e-4)
    sent = server.metric("nv_inference_request_success", FRAME_ENCODER)
    assert sent == 36
    assert server.metric("nv_inference_count", FRAME_ENCODER) == sum(
        len(feeds["frame_index"]) for own in requests for feeds in own
    )
    executions = server.metric("nv_inference_exec_count", FRAME_ENCODER)
    assert executions < sent, "no two requests were run as one batch"


def test_more_people_than_a_batch_are_sent_in_several_requests(
    server: TritonServer, client: ModuleType, nano_bundle: Bundle, local: Callable[[Feeds], np.ndarray]
):
    before = server.metric("nv_inference_request_success", FRAME_ENCODER)
    feeds = people(17, 99)
    found = client.connect(server.url, nano_bundle)("frame_encoder").run(feeds)["embeddings"]
    np.testing.assert_allclose(found, local(feeds), atol=1e-4)
    assert server.metric("nv_inference_request_success", FRAME_ENCODER) == before + 2
    clips = np.random.default_rng(0).standard_normal((17, 8, 256)).astype(np.float32)
    found = client.connect(server.url, nano_bundle)("temporal_encoder").run({"embeddings": clips})["features"]
    expected = OnnxBackend(nano_bundle.graph_path("temporal_encoder")).run({"embeddings": clips})["features"]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_server_that_is_killed_and_started_again_while_clients_run(
    server: TritonServer,
    client: ModuleType,
    wheels: dict[str, Path],
    nano_bundle: Bundle,
    local: Callable[[Feeds], np.ndarray],
):
    """The command, and a client whose request is under way when the server is killed."""
    feeds, stop = people(8, 5), threading.Event()
    expected = local(feeds)

    def send_until_stopped() -> None:
        backend = client.connect(server.url, nano_bundle, patience=120)("frame_encoder")
        while not stop.is_set():
            np.testing.assert_allclose(backend.run(feeds)["embeddings"], expected, atol=1e-4)

    command = [sys.executable, str(ROOT / "export" / "triton_client.py"), "--url", server.url]
    command += ["--max-frames", str(FRAMES), "--patience", "120"]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(wheels["client"])]))
    environment = {**os.environ, "PYTHONPATH": path}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with ThreadPoolExecutor(1) as pool, subprocess.Popen(command, text=True, env=environment, **pipes) as run:
        busy = pool.submit(send_until_stopped)
        try:
            assert run.stdout is not None
            lines = [*islice(run.stdout, 2)]
            server.kill()
            server.start()
            rest, messages = run.communicate(timeout=240)
            server.wait()
        finally:
            stop.set()
            run.kill()
        busy.result()
    assert run.returncode == 0, messages
    *_, away, back = messages.splitlines()
    assert away.startswith("triton_client: the server is away (")
    assert back == "triton_client: the server is back"
    events = [json.loads(line) for line in [*lines, *rest.splitlines()]]
    twins = list(islice(EmotionRuntime(backend="cpu").stream("demo"), FRAMES))
    assert len(events) == len(twins) == FRAMES
    for event, twin in zip(events, twins, strict=True):
        assert [person["id"] for person in event["persons"]] == [person.id for person in twin.persons]
        for person, other in zip(event["persons"], twin.persons, strict=True):
            assert person["raw"] == pytest.approx(other.raw, abs=1e-4)
    assert events[-1]["persons"]


def test_a_server_that_stays_away_is_one_line(client: ModuleType, capsys: pytest.CaptureFixture[str]):
    assert client.main(["--url", f"127.0.0.1:{free_port()}"]) == 2
    line, end = capsys.readouterr().err.split("\n")
    assert line.startswith(f"triton_client: error: Triton cannot run {FRAME_ENCODER} (")
    assert "Connection refused" in line
    assert not end


def test_an_unknown_model_is_refused_at_once(server: TritonServer, client: ModuleType, nano_bundle: Bundle):
    with pytest.raises(EmotionError, match=r"Triton cannot run nano_text \(.*Request for unknown model"):
        client.connect(server.url, nano_bundle, patience=60)("text")
