"""A real Triton server without a GPU, from the wheel of NVIDIA's PyTriton.

The wheel has the server and its backend for Python, not the one for ONNX Runtime. A short model in Python
stands for the latter: it runs `model.onnx` of the repository with the ONNX Runtime of this environment.
The server is of release 24.10 (2.51.0); its process for Python misreads the item size of arrays of NumPy
2, so it gets 1.26.
"""

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import onnxruntime

SERVER_WHEELS = ("nvidia-pytriton==0.7.0", "numpy==1.26.4")
CLIENT_WHEELS = (
    *("tritonclient==2.73.0", "geventhttpclient==2.6.1", "gevent==26.9.0", "greenlet==3.5.6"),
    *("zope.event==6.2", "zope.interface==8.7", "brotli==1.2.1", "python-rapidjson==1.25"),
    *("certifi", "urllib3"),
)
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_MODEL = '''
import sys

sys.path[:0] = {paths}

import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config

    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        """Run all requests as one batch, as the server's own backends do."""
        names = [value.name for value in self.session.get_inputs()]
        outputs = [value.name for value in self.session.get_outputs()]
        feeds = [
            {{name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in names}}
            for request in requests
        ]
        joined = {{name: np.concatenate([feed[name] for feed in feeds]) for name in names}}
        ends = np.cumsum([len(feed[names[0]]) for feed in feeds])[:-1]
        parts = [np.split(value, ends) for value in self.session.run(outputs, joined)]
        return [
            triton.InferenceResponse([triton.Tensor(*pair) for pair in zip(outputs, values)])
            for values in zip(*parts)
        ]
'''


class TritonServer:
    """A server of one repository, on ports of its own.

    Args:
        wheels: Folder of `unpacked`.
        repository: The model repository.
        folder: An empty folder for its backends and its log.
    """

    def __init__(self, wheels: Path, repository: Path, folder: Path) -> None:
        self._wheels, self._repository, self._folder = wheels, repository, folder
        self._http, self._metrics = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"127.0.0.1:{self._http}"
        server, python = wheels / "pytriton/tritonserver", folder / "backends/python"
        shutil.copytree(server / "backends/python", python)
        stub = Path(
            shutil.copy(server / f"python_backend_stubs/{_VERSION}/triton_python_backend_stub", python)
        )
        for program in (stub, server / "bin/tritonserver"):
            program.chmod(0o755)
        # NumPy 1.26 before that of this environment, in which ONNX Runtime is.
        paths = [str(wheels), str(Path(onnxruntime.__file__).parents[1])]
        (folder / "backends/onnxruntime").mkdir()
        (folder / "backends/onnxruntime/model.py").write_text(_MODEL.format(paths=paths))

    def start(self) -> None:
        """Start the server; `wait` returns when it serves."""
        libraries = [str(self._wheels / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
        command = [
            *(str(self._wheels / "pytriton/tritonserver/bin/tritonserver"), "--allow-grpc=false"),
            *(f"--model-repository={self._repository}", f"--backend-directory={self._folder / 'backends'}"),
            *("--http-address=127.0.0.1", f"--http-port={self._http}"),
            *("--metrics-address=127.0.0.1", f"--metrics-port={self._metrics}"),
        ]
        environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries), "ORT_DISABLE_TELEMETRY": "1"}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        """Return as soon as the server serves all models of its repository."""
        assert self._process is not None
        while self._process.poll() is None:
            with suppress(OSError), urlopen(f"http://{self.url}/v2/health/ready", timeout=5):
                return
            time.sleep(0.05)
        raise AssertionError((self._folder / "log").read_text(errors="replace")[-4000:])

    def kill(self) -> None:
        """Kill the server and the processes of its models, which survive it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if str(self._folder).encode() in place.read_bytes():
                    os.kill(int(place.parent.name), signal.SIGKILL)

    def metric(self, name: str, model: str) -> int:
        """Return a counter of the server about a model."""
        with urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        (value,) = (line.split()[-1] for line in lines if line.startswith(f'{name}{{model="{model}"'))
        return int(value)


def missing_part() -> str | None:
    """Return what this machine lacks for the server; None if it lacks nothing."""
    glibc = platform.libc_ver()
    if platform.machine() != "x86_64" or glibc[0] != "glibc":
        return f"the wheel of the server is for x86-64 and glibc, not {platform.machine()} and {glibc[0]}"
    if tuple(map(int, glibc[1].split("."))) < (2, 35):
        return f"the server needs glibc 2.35, and this machine has {glibc[1]}"
    if sys.version_info >= (3, 13):
        return f"NumPy 1.26, which the server needs, has no wheel for Python {_VERSION}"
    return None


def unpacked(name: str, requirements: tuple[str, ...]) -> Path:
    """Return a folder with the content of these wheels: downloaded once, then kept in the user's cache.

    Raises:
        OSError: The wheels cannot be downloaded.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emotion-runtime-tests"
    folder = cache / f"{name}-py{_VERSION}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as place:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            environment = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
            command += ["--dest", place, *requirements]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise OSError(f"{name} cannot be downloaded: {done.stderr.strip()[-300:]}")
            new = Path(place) / "unpacked"
            for wheel in Path(place).glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(new)
            with suppress(OSError):  # another process was faster
                new.rename(folder)
    return folder


def free_port() -> int:
    """Return a port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
