"""Mistakes that could destroy a user's data or end in a traceback are reported in one line."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_runs import MAIN
from onnx import TensorProto, helper

from emotion_runtime.bundle import load_bundle
from emotion_runtime.cli import main
from emotion_runtime.config import RunConfig
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.run_sources import checked_addresses
from emotion_runtime.sinks.outputs import check_outputs, numbered

# The kernel stops writes after this many bytes, like a full disk.
SMALL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); " + MAIN


def mistake(*arguments: str | Path, program: str = MAIN) -> str:
    """Return the single line of a run that ends with a user's mistake."""
    (line,) = complaints(*arguments, program=program)
    return line


def complaints(*arguments: str | Path, program: str = MAIN) -> list[str]:
    """Return the lines on standard error of a run that ends with status 2; the last one is the error."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("emotion-runtime: error: ")
    return lines


# --- a full disk ---


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_full_disk_is_one_line(model: list[str]) -> None:
    line = mistake("--source", "demo", *model, "--jsonl", "/dev/full")
    assert "No space left" in line
    assert "free disk space" in line


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes")
def test_video_that_does_not_fit_on_the_disk_is_one_line(model: list[str], tmp_path: Path) -> None:
    path = tmp_path / "demo.mp4"
    *_, line = complaints("--source", "demo", *model, "--record", path, program=SMALL_DISK)
    assert "an output failed" in line
    assert "demo.mp4 cannot be written" in line
    assert "with enough free disk space" in line


@pytest.fixture
def small_disk() -> Iterator[None]:
    """The kernel stops writes of this process after 3000 bytes of a file."""
    resource = pytest.importorskip("resource", reason="Windows has no limit on file sizes")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
def test_table_and_page_that_do_not_fit_on_the_disk_leave_the_other_outputs_alone(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, page, lines = (tmp_path / name for name in ("people.csv", "page.html", "events.jsonl"))
    outputs = ["--csv", str(table), "--report", str(page), "--jsonl", str(lines), "--on-change"]
    assert main(["--source", "demo", *model, "--max-frames", "30", *outputs]) == 2
    printed = capsys.readouterr().err
    first, last = (line for line in printed.splitlines() if "File too large" in line)
    assert "people.csv" in first
    assert first.endswith("the run goes on without this output")
    assert last.startswith("emotion-runtime: error: an output failed: ")
    assert "people.csv" in last
    assert "page.html cannot be written (File too large)" in last
    assert "30 frames in" in printed
    assert f"wrote {lines}" in printed


@pytest.mark.parametrize("flag", ["--jsonl", "--csv", "--report"])
def test_place_that_cannot_be_written_is_one_line(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" / ("out.html" if flag == "--report" else "out.csv")
    assert main(["--source", "demo", *model, flag, str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "file cannot be created: there is a file of this name; give another folder" in line


# --- overwriting a source ---


@pytest.mark.parametrize("flag", ["--jsonl", "--record"])
def test_source_is_never_overwritten(model: list[str], tmp_path: Path, flag: str) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(b"the only copy")
    assert f"{flag} {video} would overwrite the source" in mistake("--source", video, *model, flag, video)
    assert video.read_bytes() == b"the only copy"


@pytest.mark.parametrize("many", ["videos", "videos/*.mp4"])
@pytest.mark.parametrize("option", ["jsonl", "csv", "record"])
def test_file_of_a_folder_or_pattern_is_never_overwritten(tmp_path: Path, option: str, many: str) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("b.mp4", "a-2.mp4"):
        (tmp_path / "videos" / name).touch()
    # The recording of the second file is called a-2.mp4.
    out = tmp_path / "videos" / ("a.mp4" if option == "record" else "b.mp4")
    config = RunConfig(source=[str(tmp_path / many)], **{option: str(out)})
    with pytest.raises(EmotionError, match="would overwrite the source"):
        checked_addresses(config)


def test_folder_of_a_pattern_is_refused_for_its_copies(tmp_path: Path) -> None:
    """The copy of a.avif is called a.jpg."""
    for name in ("a.avif", "a.jpg"):
        (tmp_path / name).touch()
    config = RunConfig(source=[str(tmp_path / "*.avif")], record=str(tmp_path))
    with pytest.raises(EmotionError, match="is the folder of the source"):
        checked_addresses(config)


def test_links_and_relative_paths_of_a_source_are_recognised(tmp_path: Path) -> None:
    video, alias = tmp_path / "video.mp4", tmp_path / "alias.mp4"
    video.touch()
    alias.symlink_to(video)
    with pytest.raises(EmotionError, match="would overwrite the source"):
        check_outputs(None, str(alias), [str(video)])
    with pytest.raises(EmotionError, match="would overwrite the source"):
        check_outputs(os.path.relpath(video), None, ["demo", str(video)])


def test_output_file_of_a_second_source_is_checked(tmp_path: Path) -> None:
    second = tmp_path / "out-2.mp4"
    second.touch()
    with pytest.raises(EmotionError, match=r"out-2\.mp4 would overwrite the source"):
        check_outputs(None, str(tmp_path / "out.mp4"), [str(second), "demo"])
    check_outputs(None, str(tmp_path / "out.mp4"), [str(second)])  # one source, one file


def test_two_outputs_need_two_files(tmp_path: Path) -> None:
    one = str(tmp_path / "out.mp4")
    with pytest.raises(EmotionError, match="would overwrite the output of --jsonl"):
        check_outputs(one, one, ["demo"])


def test_ordinary_outputs_are_accepted(tmp_path: Path) -> None:
    check_outputs("-", str(tmp_path / "out.mp4"), [0, "demo"])
    check_outputs(str(tmp_path / "out.jsonl"), str(tmp_path / "out.mp4"), ["demo", "v4l2:///dev/video1"])
    assert [numbered(Path("a/b.mp4"), n).as_posix() for n in (1, 2, 3)] == [
        "a/b.mp4",
        "a/b-2.mp4",
        "a/b-3.mp4",
    ]


# --- unsupported detectors ---

Dims = Sequence[int | str]


def save_model(path: Path, operator: str, dims: Dims | None, metadata: dict[str, str] | None = None) -> Path:
    """Write a model of one node from the input "x" (none if dims is None) to the output "y"."""
    inputs = [] if dims is None else [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    attributes: dict[str, object] = {}
    if operator == "Constant":
        attributes["value"] = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0])
    if operator == "SequenceConstruct":
        output = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    names = ["x", "shape"] if operator == "Reshape" else ["x"] * len(inputs)
    node = helper.make_node(operator, names, ["y"], **attributes)
    shape = onnx.numpy_helper.from_array(np.array([1, 300, 6]), "shape")  # fits no image that is tested
    graph = helper.make_graph([node], "g", inputs, [output], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


FREE: Dims = (1, 3, "height", "width")


@pytest.mark.parametrize(
    ("operator", "dims", "metadata", "expected"),
    [
        ("Identity", (4, 3, 64, 64), None, "expected one float32 input (1, 3, height, width)"),
        ("Identity", (1, 10), None, "expected one float32 input"),
        ("Constant", None, None, "input none; expected one float32 input"),
        ("Reshape", FREE, None, "running it on an image of (640, 640) failed"),
        ("SequenceConstruct", (1, 3, 64, 64), None, "is not supported; expected"),
        ("Identity", FREE, {"imgsz": "nonsense ("}, "imgsz 'nonsense (' cannot be read"),
        ("Identity", FREE, {"imgsz": "[64]"}, "imgsz [64], expected [height, width]"),
    ],
)
def test_model_that_is_not_a_detector(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    operator: str,
    dims: Dims | None,
    metadata: dict[str, str] | None,
    expected: str,
) -> None:
    path = save_model(tmp_path / "odd.onnx", operator, dims, metadata)
    with pytest.raises(EmotionError) as caught:
        load_detector(str(path))
    message = str(caught.value)
    assert expected in message
    assert message.startswith(f"detector {path}: ")
    assert "\n" not in message
    assert capfd.readouterr().err == ""  # ONNX Runtime prints nothing else


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("names", "{1:", "names '{1:' cannot be read"),
        ("names", "{1: 'person', 2: 'car'}", "expected a dict of names by number"),
        ("task", "segment", "task is 'segment', expected 'detect'"),
        ("task", "pose", "task is 'pose', expected 'detect'"),
    ],
)
def test_detector_for_another_task(
    fixed_detector: Path, tmp_path: Path, key: str, value: str, expected: str
) -> None:
    model = onnx.load(fixed_detector)
    helper.set_model_props(model, {key: value})
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(EmotionError, match=re.escape(expected)):
        load_detector(str(tmp_path / "odd.onnx"))


# --- unreadable files ---


@pytest.mark.parametrize("file", ["bundle.json", "temporal_encoder.onnx"])
def test_unreadable_bundle(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    opened: Callable[..., object] = Path.open

    def refusing(path: Path, *arguments: object, **options: object) -> object:
        if path.name == file:  # chmod does not stop root, as whom tests run in containers
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(EmotionError, match=f"{file} cannot be read .Permission denied"):
        load_bundle(folder)


@pytest.mark.parametrize("option", ["--jsonl", "--csv", "--report", "--record"])
def test_a_file_where_a_folder_is_needed_is_named(
    model: list[str], tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("something")
    ending = {"--report": ".html", "--record": ".mp4"}.get(option, "")
    assert main(["--source", "demo", *model, option, str(tmp_path / "file" / f"out{ending}")]) == 2
    assert "there is a file of this name" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "something"
