"""Check what runs models: TensorRT, ONNX Runtime and its providers, OpenVINO, the bundle and its engines."""

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from typing import get_args

from emotion_runtime.doctor.findings import FAIL, OK, WARN, Finding
from emotion_runtime.errors import EmotionError
from emotion_runtime.installed import installed
from emotion_runtime.jetson import on_jetson
from emotion_runtime.names import Precision
from emotion_runtime.tensorrt import gpu as nvidia
from emotion_runtime.tensorrt.gpu import Flavor

_FRAME = (640, 480)  # width, height of the frame that the detector is tried with
_AZURE = "AzureExecutionProvider"  # calls a web service, so it is never used
_WITH_CUDA = " (for an NVIDIA GPU: onnxruntime-gpu)"
_JETSON_TENSORRT = (
    "sudo apt install python3-libnvinfer, and make the venv with python3 -m venv --system-site-packages"
)
# The wheels of PyPI have no code for the GPUs of these devices.
_JETSON_ONNX = "pip uninstall -y onnxruntime-gpu && pip install onnxruntime; use --backend tensorrt"
# The last releases for CUDA 12 are those before 1.27.
_OLDER_DRIVER = 'update the driver (580 or newer), or pip install "onnxruntime-gpu[cuda,cudnn]<1.27"'
_GPU_LIBRARIES = (
    'pip install "onnxruntime-gpu[cuda,cudnn]" (or install the CUDA and cuDNN versions of its release notes)'
)


def tensorrt() -> Iterator[Finding]:
    """Check which flavors of TensorRT are installed and load."""
    for flavor in get_args(Flavor):
        if not nvidia.is_installed(flavor) and on_jetson():
            if flavor == "tensorrt":  # there is no other for a Jetson
                yield Finding(
                    "tensorrt", WARN, "tensorrt is not installed; the GPU is not used", _JETSON_TENSORRT
                )
            continue
        if not nvidia.is_installed(flavor):
            yield Finding("tensorrt", OK, f"{flavor} is not installed; models run in ONNX Runtime")
            continue
        try:
            library = nvidia.load_tensorrt(flavor)
        except EmotionError as error:
            yield Finding("tensorrt", WARN, str(error))
        else:
            yield Finding("tensorrt", OK, f"{flavor} {library.__version__}")


def distributions(path: Sequence[str] | None = None) -> Iterator[Finding]:
    """Check that exactly one ONNX Runtime package is installed: they share one module.

    Args:
        path: Folders of installed packages; None: those of this Python.
    """
    found = installed("onnxruntime", path)
    listed = " and ".join(f"{name} {version}" for name, version in found.items())
    with_cuda = "onnxruntime-gpu" in found and not on_jetson()
    install = "pip install " + ("onnxruntime-gpu" if with_cuda else "onnxruntime")
    if not found:
        fix = f"{install}{'' if on_jetson() else _WITH_CUDA}"
        yield Finding("onnxruntime", FAIL, "ONNX Runtime is not installed", fix)
    elif len(found) > 1:
        text = f"{listed} are installed, but share one module: the last one overwrote the others"
        yield Finding("onnxruntime", FAIL, text, f"pip uninstall -y {' '.join(found)} && {install}")
    else:
        yield Finding("onnxruntime", OK, listed)


def providers() -> Iterator[Finding]:
    """Check which execution providers start; the list of those built in does not tell."""
    from emotion_runtime.backends.cuda import GPU_INSTALL  # noqa: PLC0415 - may be missing
    from emotion_runtime.backends.onnx import (  # noqa: PLC0415
        CPU,
        CUDA,
        available_providers,
        default_threads,
        usable_cores,
    )

    built_in = available_providers()
    if CUDA not in built_in and on_jetson():
        text = "ONNX Runtime runs on the CPU of a Jetson; its GPU is used with --backend tensorrt"
        yield Finding("providers", OK, text)
    elif CUDA not in built_in and shutil.which("nvidia-smi"):
        text = "an NVIDIA GPU is present, but the installed ONNX Runtime was built without CUDA"
        yield Finding("providers", WARN, text, GPU_INSTALL)
    for provider in built_in:
        if provider == _AZURE:
            continue
        error = provider_error(provider)
        if not error and provider == CPU:
            cores = f"{default_threads()} threads on {usable_cores()} cores"
            yield Finding("providers", OK, f"{CPU} starts, {cores} (at most 4: a small model gains no more)")
        elif not error:
            yield Finding("providers", OK, f"{provider} starts")
        elif provider == CPU:
            fix = f"pip install --force-reinstall onnxruntime{'' if on_jetson() else _WITH_CUDA}"
            yield Finding("providers", FAIL, f"{provider} does not run ({error})", fix)
        elif provider == CUDA:
            yield _no_cuda(provider, error)
        else:
            yield Finding(
                "providers", OK, f"{provider} is built in but does not run ({error}); it is not used"
            )


def _no_cuda(provider: str, error: str) -> Finding:
    """Say why CUDA does not run in ONNX Runtime: the driver, or else libraries that are missing."""
    from emotion_runtime.backends.onnx import import_onnxruntime  # noqa: PLC0415 - may be missing

    text = f"{provider} is built in but does not run ({error}): "
    if on_jetson():
        return Finding("providers", WARN, f"{text}use --backend tensorrt", _JETSON_ONNX)
    needs = str(getattr(import_onnxruntime(), "cuda_version", None) or "")
    try:
        driver = nvidia.find_gpu().driver
    except EmotionError:
        driver = ""
    if needs and driver and int(needs.partition(".")[0]) > int(driver.partition(".")[0]):
        text += f"it needs CUDA {needs}, but the driver supports CUDA {driver}"
        return Finding("providers", WARN, text, _OLDER_DRIVER)
    return Finding("providers", WARN, f"{text}check driver, CUDA and cuDNN", _GPU_LIBRARIES)


def provider_error(provider: str) -> str:
    """Return why ONNX Runtime does not run a graph on a provider, in one line; empty if it does."""
    import numpy as np  # noqa: PLC0415 - see above

    from emotion_runtime.backends.onnx import onnx_errors, open_session, providers_for  # noqa: PLC0415

    expected: tuple[type[Exception], ...] = (EmotionError, *onnx_errors())
    try:
        session = open_session(
            _smallest_graph(), name="test graph", fix="reinstall it", providers=providers_for(provider)
        )
        taken = session.get_providers()[0]
        if taken != provider:
            return f"it falls back to {taken}"
        (found,) = session.run(None, {"x": np.full(1, 3, np.float32)})
    except expected as error:
        return " ".join(str(error).split())
    return "" if found.tolist() == [3.0] else f"Relu(3) returned {found[0]}"


def openvino() -> Iterator[Finding]:
    """Report OpenVINO, which is used for live sources where it is fastest, and if requested by name."""
    if importlib.util.find_spec("openvino") is None:
        yield Finding("openvino", OK, "not installed; it may be faster for cameras (pip install openvino)")
    else:
        version = importlib.metadata.version("openvino")
        text = f"OpenVINO {version}, used with --backend openvino, and for cameras if it is fastest"
        yield Finding("openvino", OK, text)


def bundle(name: str) -> Iterator[Finding]:
    """Check that the bundle is complete and that its files have the hashes of the manifest."""
    from emotion_runtime.bundle import load_bundle  # noqa: PLC0415 - see above

    try:
        manifest = load_bundle(name).manifest
    except EmotionError as error:
        yield Finding("bundle", FAIL, str(error))
        return
    variants = sorted({precision for graph in manifest.graphs.values() for precision in graph.variants})
    files = len(manifest.heads) + sum(1 + len(graph.variants) for graph in manifest.graphs.values())
    precisions = ", ".join(["fp32", *variants])
    yield Finding(
        "bundle", OK, f"{manifest.name} ({manifest.preset}): {files} files match their hashes, {precisions}"
    )


def engines() -> Iterator[Finding]:
    """Check the cache of TensorRT engines: number, size, and which of them cannot be loaded."""
    from emotion_runtime.tensorrt import cache  # noqa: PLC0415 - see above

    folder = cache.default_folder()
    if not folder.is_dir():
        yield Finding("engines", OK, f"none yet in {folder} ({cache.CACHE_VARIABLE} chooses another folder)")
        return
    other = f"export {cache.CACHE_VARIABLE}=FOLDER, with a folder that you may write to"
    if not os.access(folder, os.R_OK | os.X_OK):
        text = f"{folder} is not readable, so every run builds its engines again"
        yield Finding("engines", WARN, text, other)
        return
    if not os.access(folder, os.W_OK):
        text = f"{folder} is not writable: its engines are used, but new ones and parity checks are not kept"
        yield Finding("engines", WARN, text, other)
    files = sorted(folder.glob("*.engine"))
    size = sum(file.stat().st_size for file in files)
    keys = [sidecar.key for sidecar in cache.read_sidecars(folder)]
    valid = {key.stem for key in keys if not isinstance(cache.find_engine(folder, key), str)}
    if bad := [str(file) for file in files if file.stem not in valid]:
        text = f"{len(bad)} corrupt or of another version in {folder}"
        yield Finding("engines", WARN, text, shlex.join(["rm", *bad]))
    yield Finding("engines", OK, f"{len(valid)} valid in {folder}, {size / 1e6:.0f} MB in total")


def backend(
    bundle_name: str, name: str, precision: Precision | None = None, detector: str = "face"
) -> Iterator[Finding]:
    """Check whether a run could open its encoders and its detector, and report what runs them."""
    # Here, since the checks before this one report what of these cannot be imported.
    from emotion_runtime.backends.base import Unavailable  # noqa: PLC0415
    from emotion_runtime.bundle import load_bundle  # noqa: PLC0415
    from emotion_runtime.open_backend import minimal_feeds, open_encoders  # noqa: PLC0415
    from emotion_runtime.tensorrt.build_client import builder_command  # noqa: PLC0415

    try:
        loaded = load_bundle(bundle_name)
        encoders = open_encoders(name, loaded, precision, build=False)
        for encoder, feeds in zip(encoders, minimal_feeds(loaded.manifest), strict=True):
            encoder.run(feeds)
            encoder.close()
    except Unavailable as error:
        # A run builds a missing engine, if the builder is installed.
        builds = bool(error.build) and builder_command(error.build) is not None
        yield Finding("backend", WARN if builds else FAIL, f"{name}: {error.reason}", error.fix)
    except EmotionError as error:
        yield Finding("backend", FAIL, str(error))
    else:
        yield Finding("backend", OK, f"{name}: {encoders[0].description}")
        by_name = name in ("cuda", "openvino")  # a missing engine of TensorRT is built
        yield from _detector(detector, encoders[0].name, precision, by_name=by_name)


def _detector(source: str, name: str, precision: Precision | None, *, by_name: bool) -> Iterator[Finding]:
    """Check whether a run could find people with the backend of the encoders, and report what does."""
    import numpy as np  # noqa: PLC0415 - these for the reason in `backend`

    from emotion_runtime.backends.base import Unavailable  # noqa: PLC0415
    from emotion_runtime.detector_backend import run_network  # noqa: PLC0415
    from emotion_runtime.detectors import load_detector  # noqa: PLC0415
    from emotion_runtime.detectors.network import NetworkDetector  # noqa: PLC0415

    try:
        loaded = load_detector(source)
        if not isinstance(loaded, NetworkDetector):
            return
        # Engines as with `auto`, so that none is built: what replaces a missing one is reported.
        network = run_network(loaded, name, by_name=by_name, precision=precision)
        loaded(np.zeros((_FRAME[1], _FRAME[0], 3), np.uint8))
        description = network.description
        network.close()
    except Unavailable as error:
        yield Finding("detector", FAIL, f"{name}: {error.reason}", error.fix)
        return
    except EmotionError as error:
        yield Finding("detector", FAIL, str(error))
        return
    replaced = name != "cpu" and "CPUExecutionProvider" in description
    text = f"{source} for frames of {_FRAME[0]}x{_FRAME[1]}: {description}"
    yield Finding("detector", WARN if replaced else OK, f"{text}, instead of {name}" if replaced else text)


def _smallest_graph() -> bytes:
    """Return an ONNX model of one operator on one value."""
    from onnx import TensorProto, helper  # noqa: PLC0415 - see above

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "smallest", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
