"""`emotion-runtime --doctor`: check this machine, and print a command that fixes each problem.

Packages that may be missing or broken are imported inside the checks, because that is what they check.
"""

from collections.abc import Callable, Iterator, Sequence

from emotion_runtime.broken_packages import fix_for
from emotion_runtime.doctor.findings import FAIL, OK, WARN, Finding, as_json, as_text
from emotion_runtime.errors import EmotionError
from emotion_runtime.names import Precision

__all__ = ["FAIL", "OK", "WARN", "Finding", "as_json", "as_text", "run_checks", "worst_state"]


def run_checks(
    bundle: str,
    backend: str,
    precision: Precision | None = None,
    sources: Callable[[], Sequence[str | int]] = tuple,
    detector: str = "face",
) -> list[Finding]:
    """Run all checks, in report order. The last ones open the models and sources as a run would.

    Args:
        bundle: Name or folder of the bundle.
        backend: Name of the backend.
        precision: Numeric precision of the encoders; None: the backend's default.
        sources: Returns the sources to be opened.
        detector: What `--detector` takes.
    """
    from emotion_runtime.doctor import inference, machine, media, opening  # noqa: PLC0415 - see above

    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("system", machine.system),
        ("jetson", machine.jetson),
        ("gpu", machine.gpu),
        ("cuda", machine.cuda),
        ("tensorrt", inference.tensorrt),
        ("onnxruntime", inference.distributions),
        ("providers", inference.providers),
        ("openvino", inference.openvino),
        ("opencv", media.opencv),
        ("pyav", media.pyav),
        ("gstreamer", media.gstreamer),
        ("cameras", media.cameras),
        ("display", media.display),
        ("bundle", lambda: inference.bundle(bundle)),
        ("engines", inference.engines),
        ("backend", lambda: inference.backend(bundle, backend, precision, detector)),
        ("source", lambda: opening.sources(sources())),
    ]
    return [finding for area, check in checks for finding in _guarded(area, check)]


def worst_state(findings: Sequence[Finding]) -> str:
    """Return FAIL if any finding has it, else WARN if any has it, else OK."""
    return max((finding.state for finding in findings), key=(OK, WARN, FAIL).index)


def _guarded(area: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Run a check; a package that is missing or cannot be loaded becomes a finding."""
    try:
        return list(check())
    # AttributeError: what is left of a package; OSError: a shared library, or a file of the system.
    except (ImportError, AttributeError, OSError) as error:
        reason = " ".join(str(error).split())
        # The fixes name the packages themselves, because this project is not published on a package index.
        fix = fix_for(error)
        if fix is None and isinstance(error, AttributeError):
            raise
        if fix is None and isinstance(error, OSError):
            return [Finding(area, WARN, f"cannot be checked ({reason})")]
        return [Finding(area, FAIL, reason, fix)]
    except EmotionError as error:
        return [Finding(area, FAIL, str(error), None)]
