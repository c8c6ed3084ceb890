"""Nothing is sent home: the system calls of runs, an export and a training step, without the variables of CI.

`strace` shows every connection, name query and file that is opened for writing, also by threads and child
processes. Each program goes on for some seconds after its work, in which libraries could report.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from emotion_runtime.telemetry import OPT_OUTS

ROOT = Path(__file__).resolve().parents[2]
# Libraries keep quiet where they see a CI service or pytest.
QUIETING = {
    "CI",
    "GITHUB_ACTIONS",
    "TF_BUILD",
    "PYTEST_CURRENT_TEST",
    "HF_HUB_OFFLINE",
    "PYTHONDONTWRITEBYTECODE",
}
CALLS = "connect,sendto,sendmsg,sendmmsg,bind,open,openat,creat,mkdir,mkdirat,link,linkat,symlink,symlinkat"
CALLS += ",rename,renameat,renameat2,mknod,mknodat,truncate"
WAIT = 3  # seconds that a program goes on after its work

TRAIN = """
[scenes]
steps = 1
scenes_per_batch = 4
beta = 1.0
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        reason = "strace is not installed: apt-get install strace"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    attempt = subprocess.run([found, "-qq", "true"], capture_output=True, text=True, check=False)
    if "ptrace" in attempt.stderr.lower() and "not permitted" in attempt.stderr:
        pytest.skip(f"this machine forbids watching system calls: {attempt.stderr.strip()}")
    return found


def stated_caches() -> list[str]:
    """The folders in RESPONSIBLE_USE.md into which libraries may write, relative to the home folder."""
    text = (ROOT / "RESPONSIBLE_USE.md").read_text(encoding="utf-8")
    return [name.rstrip("/") for name in re.findall(r"^- `~/([^`]+)`", text, re.MULTILINE)]


class Traced:
    """A Python program that was run in a fresh home folder under `strace`."""

    def __init__(self, strace: str, folder: Path, program: str) -> None:
        self.home, self.work = (folder / name for name in ("home", "work"))
        for path in (self.home, self.work):
            path.mkdir(exist_ok=True)
        # A short path: that of a socket in it has at most 107 characters.
        self.temporary = Path(tempfile.mkdtemp())
        log = folder / "strace.log"
        removed = {*QUIETING, *OPT_OUTS}
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in removed and not name.startswith(("XDG_", "MPL", "YOLO", "TORCH", "HF_"))
        }
        environment |= {"HOME": str(self.home), "TMPDIR": str(self.temporary), "PYTHONPATH": python_path()}
        command = [strace, "-f", "-y", "-qq", "--seccomp-bpf", "-s", "200", "-e", f"trace={CALLS}"]
        command += ["-e", "signal=none", "-o", str(log), sys.executable, "-B", "-c", program]
        done = subprocess.run(
            command, cwd=self.work, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        shutil.rmtree(self.temporary)
        assert done.returncode == 0, done.stderr
        self.calls = log.read_text(errors="replace").splitlines()

    def contacts(self) -> list[str]:
        """The calls that connect or send to another machine, or ask for the address of one."""
        found = []
        for call in self.calls:
            if not re.search(r"\b(connect|sendto|sendmsg|sendmmsg|bind)\(", call):
                continue
            local = re.search(r'inet_addr\("127\.|"::1"|inet_addr\("0\.0\.0\.0"\)', call)
            internet = "AF_INET" in call and (not local or "htons(53)" in call)
            resolver = "AF_UNIX" in call and re.search(r"nscd|systemd/resolve|varlink", call)
            if internet or (resolver and "= -1 ENOENT" not in call):
                found.append(call)
        return found

    def written_elsewhere(self) -> list[str]:
        """The files and folders that were made or opened for writing outside the places that are stated."""
        allowed = [self.work, self.temporary, Path("/dev"), Path("/proc/self"), Path("/proc")]
        allowed += [self.home / cache for cache in stated_caches()]
        found = set()
        for call in self.calls:
            if "= -1 " in call or (
                re.search(r"\bopen(at)?\(", call) and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", call)
            ):
                continue
            if re.search(r"\b(connect|sendto|sendmsg|sendmmsg|bind)\(", call):
                continue
            for folder, name in re.findall(r'(?:AT_FDCWD<([^>]*)>, )?"([^"]*)"', call)[-2:]:
                path = Path(os.path.normpath(Path(folder or self.work) / name))
                parents = {path, *path.parents}
                # A folder on the way to a cache is made together with it.
                on_the_way = "mkdir" in call and any(path in place.parents for place in allowed)
                if not on_the_way and not parents & set(allowed):
                    found.add(str(path))
        return sorted(found)


def python_path() -> str:
    return os.pathsep.join(str(ROOT / name) for name in ("runtime", "train", "export", "benchmarks"))


def program_of(*commands: str) -> str:
    """Return a program that runs command lines of this project, and goes on for a while."""
    return "; ".join(["import time", *commands, f"time.sleep({WAIT})"])


def runtime(backend: str) -> str:
    arguments = ["--source", "demo", "--max-frames", "5", "--jsonl", "x.jsonl", "--record", "x.mp4"]
    if backend == "cpu":  # all other outputs, too, once
        arguments += ["--csv", "x.csv", "--report", "x.html", "--serve", "127.0.0.1:0"]
    return f"from emotion_runtime.cli import main; assert main({[*arguments, '--backend', backend]}) == 0"


@pytest.mark.parametrize("backend", ["cpu", "openvino"])
def test_a_run_sends_and_leaves_nothing(strace: str, tmp_path: Path, backend: str):
    traced = Traced(strace, tmp_path, program_of(runtime(backend)))
    assert traced.contacts() == []
    assert traced.written_elsewhere() == []
    assert (tmp_path / "work" / "x.mp4").is_file()


@pytest.mark.parametrize("module", ["tensorrt_rtx"])
def test_the_libraries_of_a_gpu_send_nothing(strace: str, tmp_path: Path, module: str):
    pytest.importorskip(module, reason=f"{module} is not installed", exc_type=ImportError)
    traced = Traced(strace, tmp_path, program_of("import emotion_runtime", f"import {module}"))
    assert traced.contacts() == []
    assert traced.written_elsewhere() == []


def test_an_export_sends_and_leaves_nothing(strace: str, tmp_path: Path):
    arguments = ["--bundle", "nano", "--precision", "fp16", "--out", "small"]
    export = f"from emotion_export.commands.onnx import main; assert main({arguments}) == 0"
    traced = Traced(strace, tmp_path, program_of(export))
    assert traced.contacts() == []
    assert traced.written_elsewhere() == []


def test_a_training_step_sends_and_leaves_nothing(strace: str, tmp_path: Path):
    data = tmp_path / "data"
    (data / "data" / "goemotions_ekman").mkdir(parents=True)
    make = (
        "import sys; from pathlib import Path; from make_data import write_faces, write_sentences\n"
        "data = Path(sys.argv[1]); write_faces(data / 'fer2013_plus.npz', data / 'faces')\n"
        "write_sentences(data / 'goemotions_ekman')"
    )
    subprocess.run(
        [sys.executable, "-c", make, str(data / "data")],
        check=True,
        env={**os.environ, "PYTHONPATH": python_path()},
        cwd=ROOT / "train" / "examples",
    )
    smoke = (ROOT / "train" / "configs" / "smoke.toml").read_text(encoding="utf-8")
    (tmp_path / "steps.toml").write_text(smoke.partition("[")[0] + TRAIN)
    arguments = ["--config", str(tmp_path / "steps.toml"), "--data", str(data), "--out", "run"]
    train = f"from emotion_train.commands.pretrain import main; assert main({arguments}) == 0"
    traced = Traced(strace, tmp_path, program_of(train))
    assert traced.contacts() == []
    assert traced.written_elsewhere() == []


def test_the_check_finds_a_name_query_and_a_file_in_the_home_folder(strace: str, tmp_path: Path):
    """Otherwise the tests above would prove nothing. 192.0.2.1 belongs to no machine (RFC 5737)."""
    program = (
        "import pathlib, socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        "exec('try: s.sendto(b\\'x\\', (\\'192.0.2.1\\', 53))\\nexcept OSError: pass'); "
        "(pathlib.Path.home() / 'id').write_text('x'); (pathlib.Path.home() / 'vendor').mkdir()"
    )
    traced = Traced(strace, tmp_path, program)
    assert len(traced.contacts()) == 1
    assert "htons(53)" in traced.contacts()[0]
    assert traced.written_elsewhere() == [str(tmp_path / "home" / name) for name in ("id", "vendor")]


def test_the_check_finds_a_report_of_a_library(strace: str, tmp_path: Path):
    """ONNX Runtime without this project: it writes an identifier of the machine."""
    traced = Traced(strace, tmp_path, "import onnxruntime")
    assert any("onnxruntime" in path for path in traced.written_elsewhere())
