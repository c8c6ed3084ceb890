"""`emotion-runtime --doctor`: what this machine has, what of it works, and the command that mends the rest.

Nothing is imported here that may be missing or broken: that is what is to be found out.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from emotion_runtime.doctor.findings import FAIL, OK, WARN, Finding, as_json, as_text
from emotion_runtime.errors import EmotionError

__all__ = ["FAIL", "OK", "WARN", "Finding", "as_json", "as_text", "examine", "worst"]


def examine(bundle: str, backend: str, precision: Any = None) -> list[Finding]:
    """Everything that is looked at, in the order of the report.

    bundle, backend, precision: as a run would be given them; whether such a run would get its encoders is
    the last finding.
    """
    from emotion_runtime.doctor import inference, machine, media  # noqa: PLC0415 - see above

    # Packages are named themselves: nobody has published this project on an index under a name of its own.
    fixes = {"opencv": "opencv-python", "pyav": "av"}
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
        ("cameras", media.cameras),
        ("display", media.display),
        ("bundle", lambda: inference.bundle(bundle)),
        ("engines", inference.engines),
        ("backend", lambda: inference.backend(bundle, backend, precision)),
    ]
    return [
        finding
        for area, check in checks
        for finding in _guarded(area, check, package=fixes.get(area, "onnxruntime"))
    ]


def worst(findings: Sequence[Finding]) -> str:
    """FAIL if there is one, else WARN if there is one, else OK."""
    return max((finding.state for finding in findings), key=(OK, WARN, FAIL).index)


def _guarded(area: str, check: Callable[[], Iterator[Finding]], *, package: str) -> list[Finding]:
    """What a check finds; a package that is missing or cannot be loaded is a finding, too."""
    try:
        return list(check())
    except (ImportError, OSError) as error:  # OSError: a shared library that is not there
        return [Finding(area, FAIL, " ".join(str(error).split()), f"pip install --force-reinstall {package}")]
    except EmotionError as error:
        return [Finding(area, FAIL, str(error), None)]
