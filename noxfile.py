"""The checks of this repository, one session each: `nox -l` lists them, `nox -s lint test` runs two.

Sessions run in the environment that nox itself is started from (`.venv-dev/bin/nox`), because a new one
takes eight gigabytes. `nox --force-venv-backend venv -s NAME` gives a session an environment of its own.
"""

import shutil
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "test"]

PYTHONS = ("3.10", "3.11", "3.12", "3.13")  # those of .github/workflows/ci.yml
PACKAGES = Path("dist")
TENSORRT_STUBS = "10.13.0.35.1"


def run(session: nox.Session, module: str, *arguments: str) -> None:
    """Run `python -m MODULE` with the Python of the session's environment."""
    sandboxed = session.virtualenv.is_sandboxed
    session.run("python" if sandboxed else sys.executable, "-m", module, *arguments, external=not sandboxed)


def install(session: nox.Session, *requirements: str) -> None:
    """Install requirements if the session has an environment of its own."""
    if session.virtualenv.is_sandboxed:
        session.install(*requirements)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and spelling."""
    install(session, "ruff", "codespell", "tomli")
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    run(session, "codespell_lib", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy, those of TensorRT's Python API included."""
    install(session, "-e", ".[dev]")
    install_tensorrt_stubs(session)
    run(session, "mypy")


def install_tensorrt_stubs(session: nox.Session) -> None:
    """Install the package tensorrt-stubs into build/stubs, where mypy looks for it.

    It requires TensorRT itself, which needs NVIDIA's own index. In the environment, where a folder `tensorrt`
    would look like TensorRT, mypy would not read it: it has no marker `py.typed`. Two mistakes of its
    generator, which mypy cannot parse, are repaired.
    """
    folder = Path("build/stubs")
    if (folder / f"tensorrt_stubs-{TENSORRT_STUBS}.dist-info").is_dir():
        return
    shutil.rmtree(folder, ignore_errors=True)
    requirement = f"tensorrt-stubs=={TENSORRT_STUBS}"
    run(session, "pip", "install", "--quiet", "--no-deps", "--target", str(folder), requirement)
    file = folder / "tensorrt_bindings" / "tensorrt.pyi"
    text = file.read_text(encoding="utf-8")
    text = text.replace(", in: ", ", in_: ").replace("channel_axis: int)", "channel_axis: int = ...)")
    file.write_text(text, encoding="utf-8")


@nox.session
def test(session: nox.Session) -> None:
    """Run the fast tests on two processes: four of five tests, all of the runtime's."""
    install(session, "-e", ".[dev]")
    run(session, "pytest", "-m", "not slow", "-n", "2", *session.posargs)


@nox.session(name="test-all")
def test_all(session: nox.Session) -> None:
    """Run every test on two processes, except those that are marked `nightly`."""
    install(session, "-e", ".[dev]")
    run(session, "pytest", "-n", "2", *session.posargs)


@nox.session(name="test-nightly")
def test_nightly(session: nox.Session) -> None:
    """Run the tests that take minutes."""
    install(session, "-e", ".[dev]")
    run(session, "pytest", "-m", "nightly", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/docs; a warning is an error."""
    install(session, "-e", ".[dev]")
    run(session, "sphinx", "-W", "--keep-going", "docs", "build/docs")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel and the source distribution into dist/ and check their metadata."""
    install(session, "build", "hatchling", "hatch-fancy-pypi-readme", "twine")
    for old in PACKAGES.glob("emotion_runtime-*"):
        old.unlink()
    run(session, "build", "--no-isolation", "--outdir", str(PACKAGES))
    run(session, "twine", "check", "--strict", *map(str, PACKAGES.glob("emotion_runtime-*")))


@nox.session
def readme(session: nox.Session) -> None:
    """Run the README's commands as printed, in .venv and .venv-dev, or only the blocks named after `--`."""
    blocks = session.posargs or ["run", "python", "own-model", "engines", "clips"]
    session.run("bash", ".ci/readme", *blocks, external=True)


@nox.session(venv_backend="venv")
def constraints(session: nox.Session) -> None:
    """Resolve every dependency anew for each Python of CI and write constraints/; extra options go to uv."""
    session.install("uv")
    for python in PYTHONS:
        target = f"constraints/py{python.replace('.', '')}.txt"
        session.run(
            *("uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--upgrade", "--quiet"),
            *("--python-version", python, "--python-platform", "x86_64-manylinux_2_28"),
            *("--no-annotate", "--custom-compile-command", "nox -s constraints", "--output-file", target),
            *session.posargs,
        )
