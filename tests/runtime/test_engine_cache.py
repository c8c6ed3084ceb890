"""An engine is loaded only if it matches its sidecar; incomplete files are never accepted."""

import errno
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from emotion_runtime import __version__, files
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import remove_leftovers, write_atomically
from emotion_runtime.manifest import Variant
from emotion_runtime.tensorrt.cache import (
    CACHE_VARIABLE,
    EngineKey,
    Sidecar,
    cache_folder,
    compatible_engines,
    default_folder,
    discard,
    find_engine,
    read_sidecars,
    store_engine,
    store_sidecar,
)
from emotion_runtime.tensorrt.gpu import Gpu
from emotion_runtime.tensorrt.keys import encoder_key

ORIN = Gpu("Orin", "8.7")
CONTENT = b"machine code of one GPU"
SHA256 = "d8f7741404821b15a70ffc2ee15c25de6f978606e12c563157059438eab37ef1"  # sha256sum of CONTENT

KEY = EngineKey(
    graph="frame_encoder",
    sources={"fp32": "a" * 64},
    builder="tensorrt 10.3.0 Linux aarch64",
    gpu="Orin",
    compute_capability="8.7",
    precision="ladder",
    persons=16,
    images=4,
)
OTHERS = {
    "graph": "temporal_encoder",
    "sources": {"fp32": "b" * 64},
    "builder": "tensorrt 10.3.1 Linux aarch64",
    "gpu": "Thor",
    "compute_capability": "8.6",
    "precision": "fp16",
    "persons": 8,
    "images": 2,
}


def sidecar(key: EngineKey = KEY) -> Sidecar:
    return Sidecar(
        schema=2,
        key=key,
        sha256=SHA256,
        size=len(CONTENT),
        precision="fp16",
        checked_on="",
        parity=[],
        fp32_layers=[],
        layer_types={"fp16": 3},
        loaded_types={},
        refused=[],
        build_seconds=1.0,
    )


def reason(folder: Path, key: EngineKey = KEY) -> str:
    found = find_engine(folder, key)
    assert isinstance(found, str)
    return found


def test_a_stored_engine_is_found(tmp_path: Path):
    assert reason(tmp_path) == "not built yet"
    path = store_engine(tmp_path, CONTENT, sidecar())
    assert find_engine(tmp_path, KEY) == (sidecar(), CONTENT)
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".engine", ".json"]
    assert path.read_bytes() == CONTENT


def test_all_fields_of_the_key_are_tested():
    assert set(OTHERS) == set(EngineKey.__struct_fields__)


@pytest.mark.parametrize("field", OTHERS)
def test_an_engine_for_another_key_is_not_used(tmp_path: Path, field: str):
    store_engine(tmp_path, CONTENT, sidecar())
    other = msgspec.structs.replace(KEY, **{field: OTHERS[field]})
    assert reason(tmp_path, other) == "not built yet"
    # Renaming its files does not make it the wanted engine.
    for ending in (".engine", ".json"):
        (tmp_path / f"{KEY.stem}{ending}").rename(tmp_path / f"{other.stem}{ending}")
    assert "describes another engine" in reason(tmp_path, other)


def test_corrupt_files_are_not_used_and_the_next_build_replaces_them(tmp_path: Path):
    path = store_engine(tmp_path, CONTENT, sidecar())
    json = path.with_suffix(".json")
    for corrupt in (CONTENT[:-1], CONTENT[:-1] + b"?", b""):
        path.write_bytes(corrupt)
        assert "is corrupt" in reason(tmp_path)
    path.unlink()
    assert reason(tmp_path) == "not built yet"
    store_engine(tmp_path, CONTENT, sidecar())
    complete = json.read_bytes()
    for corrupt in (b"", complete[:-9], b"[]", complete.replace(b'"size"', b'"length"')):
        json.write_bytes(corrupt)
        assert "is corrupt or of another version" in reason(tmp_path)
    store_engine(tmp_path, CONTENT, sidecar())
    assert find_engine(tmp_path, KEY) == (sidecar(), CONTENT)


def test_a_sidecar_of_another_version_is_not_used(tmp_path: Path):
    store_engine(tmp_path, CONTENT, msgspec.structs.replace(sidecar(), schema=1))
    assert "another engine" in reason(tmp_path)


def test_a_stop_between_the_two_files_makes_the_pair_invalid(tmp_path: Path):
    """The new engine is written, but not its sidecar."""
    path = store_engine(tmp_path, CONTENT, sidecar())
    write_atomically(path, b"another build")
    assert "is corrupt" in reason(tmp_path)


def test_an_engine_built_on_this_gpu_comes_before_one_built_ahead_of_time(tmp_path: Path):
    ahead = msgspec.structs.replace(KEY, gpu="")
    assert usable(tmp_path) == []
    store_engine(tmp_path, CONTENT, sidecar(ahead))
    assert usable(tmp_path) == [ahead]
    store_engine(tmp_path, CONTENT, sidecar())
    assert usable(tmp_path) == [KEY, ahead]


def usable(folder: Path, key: EngineKey = KEY) -> list[EngineKey]:
    return [found.key for found, _ in compatible_engines(folder, key)]


COMPATIBLE = {
    "made for fewer people": {"persons": 8, "images": 2},
    "made ahead of time": {"gpu": ""},
    "made ahead of time for several": {"gpu": "", "compute_capability": "8.6 8.7"},
    "of another precision": {"precision": "fp16", "sources": {"fp32": "a" * 64, "fp16": "c" * 64}},
}
INCOMPATIBLE = {
    "another graph": {"graph": "temporal_encoder"},
    "another model": {"sources": {"fp32": "b" * 64}},
    "another fp16 graph": {"precision": "fp16", "sources": {"fp32": "a" * 64, "fp16": "d" * 64}},
    "an int8 graph that the bundle does not have": {"sources": {"fp32": "a" * 64, "int8": "c" * 64}},
    "another version": {"builder": "tensorrt 10.3.1 Linux aarch64"},
    "another GPU": {"gpu": "Thor"},
    "another generation": {"gpu": "", "compute_capability": "8.6"},
    "other generations": {"gpu": "", "compute_capability": "8.0 8.6 8.9"},
}


@pytest.mark.parametrize("case", [*COMPATIBLE, *INCOMPATIBLE])
def test_which_other_engines_can_replace_the_requested_one(tmp_path: Path, case: str):
    """The runtime requests precision fallback for a bundle that has an fp16 graph."""
    wanted = msgspec.structs.replace(KEY, sources={"fp32": "a" * 64, "fp16": "c" * 64})
    store_engine(
        tmp_path, CONTENT, sidecar(msgspec.structs.replace(wanted, **{**COMPATIBLE, **INCOMPATIBLE}[case]))
    )
    (tmp_path / "corrupt.json").write_bytes(b"{")
    assert len(usable(tmp_path, wanted)) == (case in COMPATIBLE)


def test_of_engines_with_equal_limits_the_faster_precision_comes_first(tmp_path: Path):
    """Their limits are equal, and the names of their files sort in another order."""
    wanted = msgspec.structs.replace(KEY, sources={"fp32": "a" * 64, "fp16": "c" * 64}, gpu="Orin")
    sources = {"fp32": {"fp32": "a" * 64}, "fp16": {"fp32": "a" * 64, "fp16": "c" * 64}}
    for persons in (8, 4):
        for requested, built in (("fp32", "fp32"), ("fp16", "fp16"), ("ladder", "mixed")):
            key = msgspec.structs.replace(
                wanted, precision=requested, sources=sources.get(requested, wanted.sources), persons=persons
            )
            store_engine(tmp_path, CONTENT, msgspec.structs.replace(sidecar(key), precision=built))
    found = [(each.key.persons, each.precision) for each, _ in compatible_engines(tmp_path, wanted)]
    assert found == [(p, precision) for p in (8, 4) for precision in ("fp16", "mixed", "fp32")]


def test_a_discarded_engine_counts_as_not_built(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    store_engine(tmp_path, CONTENT, sidecar())
    discard(tmp_path, KEY)
    assert reason(tmp_path) == "not built yet"
    discard(tmp_path, KEY)  # another process may have done it before
    assert not caplog.messages


def test_a_warning_if_an_engine_cannot_be_discarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def read_only(_path: Path, **_options: bool) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    store_engine(tmp_path, CONTENT, sidecar())
    monkeypatch.setattr(Path, "unlink", read_only)
    discard(tmp_path, KEY)
    (message,) = caplog.messages
    assert message.endswith("cannot be removed (Read-only file system)")


def test_a_precision_requested_by_name_is_not_replaced_by_another(tmp_path: Path):
    store_engine(tmp_path, CONTENT, sidecar())
    assert usable(tmp_path, msgspec.structs.replace(KEY, precision="fp32")) == []


def test_a_check_result_is_saved_in_the_sidecar(tmp_path: Path):
    store_engine(tmp_path, CONTENT, sidecar())
    passed = msgspec.structs.replace(sidecar(), checked_on="Orin, driver for CUDA 12.6")
    store_sidecar(tmp_path, passed)
    assert find_engine(tmp_path, KEY) == (passed, CONTENT)


def test_the_key_of_a_bundle(tiny_bundle: Path):
    bundle = load_bundle(tiny_bundle)
    stated = bundle.manifest.graphs["temporal_encoder"].sha256
    derived = {"fp32": stated, "fp16": f"derived by emotion-runtime {__version__}"}
    for precision, sources in (("ladder", derived), ("fp32", {"fp32": stated})):
        key = encoder_key(bundle, "temporal_encoder", precision, Limits(8, 2), builder="b", gpu=ORIN)
        assert key == EngineKey(
            "temporal_encoder", sources, "b", "Orin", "8.7", precision, persons=8, images=2
        )
    for precision in ("fp16", "int8"):
        with pytest.raises(
            EmotionError, match=f"^precision {precision}: .* has temporal_encoder only in fp32"
        ):
            encoder_key(bundle, "temporal_encoder", precision, Limits(), builder="b", gpu=ORIN)


def test_the_key_of_a_bundle_that_has_an_fp16_graph(tiny_bundle: Path):
    bundle = load_bundle(tiny_bundle)
    graph = bundle.manifest.graphs["temporal_encoder"]
    variants = {"fp16": Variant("temporal_encoder.fp16.onnx", "c" * 64, 20)}
    graphs = {"temporal_encoder": msgspec.structs.replace(graph, variants=variants)}
    both = Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, graphs=graphs))
    for precision in ("ladder", "fp16"):
        key = encoder_key(both, "temporal_encoder", precision, Limits(), builder="b", gpu=ORIN)
        assert key.sources == {"fp32": graph.sha256, "fp16": "c" * 64}


def test_the_cache_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("EMOTION_ENGINE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_folder()
    assert folder == tmp_path / "emotion-runtime" / "engines"
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("EMOTION_ENGINE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert cache_folder(tmp_path / "requested") == tmp_path / "requested"
    assert not list(folder.iterdir())


def test_one_warning_if_the_cache_is_not_writable(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "cache"  # not even root can create it
    with caplog.at_level(logging.WARNING):
        first, second = cache_folder(below), cache_folder(below)
    assert first == second
    assert first.is_dir()
    assert list(first.iterdir()) == []
    (line,) = caplog.messages
    assert re.search(
        r"file/cache is not writable \(Not a directory\): using .*set EMOTION_ENGINE_CACHE", line
    )
    first.rmdir()


def test_a_full_disk_is_a_one_line_error_and_keeps_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = store_engine(tmp_path, CONTENT, sidecar())

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    line = r"cannot be written \(No space left on device\): free 9 MB"
    with pytest.raises(EmotionError, match=line) as error:
        store_engine(tmp_path, bytes(9_000_000), sidecar())
    assert "\n" not in str(error.value)
    assert path.read_bytes() == CONTENT
    assert len(list(tmp_path.iterdir())) == 2
    assert find_engine(tmp_path, KEY) == (sidecar(), CONTENT)


def test_a_killed_write_leaves_nothing_that_could_be_loaded(tmp_path: Path):
    """A real process is killed after the content is written, just before the file gets its name."""
    code = (
        "import os, signal, sys; from pathlib import Path; from emotion_runtime import files\n"
        "files.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_atomically(Path(sys.argv[1]), bytes(9))\n"
    )
    for name in (f"{KEY.stem}.engine", f"{KEY.stem}.json"):
        killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
        assert killed.returncode == -signal.SIGKILL
    leftovers = list(tmp_path.iterdir())
    assert len(leftovers) == 2
    assert reason(tmp_path) == "not built yet"
    assert read_sidecars(tmp_path) == []
    assert list(tmp_path.glob("*.engine")) == []  # what the doctor counts
    store_engine(tmp_path, CONTENT, sidecar())
    remove_leftovers(tmp_path, "*.engine")
    assert find_engine(tmp_path, KEY) == (sidecar(), CONTENT)
    # Leftovers of sidecars stay: they are small, and a runtime may be writing one at this moment.
    assert [path.name for path in leftovers if path.exists()] == [
        path.name for path in leftovers if ".json." in path.name
    ]


@pytest.mark.parametrize(
    ("variable", "below"), [(CACHE_VARIABLE, ""), ("XDG_CACHE_HOME", "emotion-runtime/engines")]
)
def test_a_tilde_in_a_variable_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, below: str
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv(variable, "~/engines")
    assert default_folder() == tmp_path / "engines" / below


def test_a_user_without_a_home_folder_is_told_which_variable_to_set(monkeypatch: pytest.MonkeyPatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(EmotionError, match="no home folder; set EMOTION_ENGINE_CACHE to a folder"):
        default_folder()
