import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PILLOW_OPEN = Image.open
IN_CI = os.environ.get("CI") == "true"
MAY_BE_SKIPPED = (
    "this machine forbids watching system calls",
    "this machine has just started",
    "this machine has CUDA",
)

# Before torch is loaded: the threads of several workers would slow each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that take minutes and those that need a GPU, unless they are asked for."""
    for marker in ("nightly", "gpu"):
        if marker not in config.option.markexpr:
            config.hook.pytest_deselected(items=[item for item in items if marker in item.keywords])
            items[:] = [item for item in items if marker not in item.keywords]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let no other test of several workers run at the same time as one that is marked `alone`."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if "alone" in item.keywords else fcntl.LOCK_SH)
        try:
            return (yield)
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a process that the test left behind holds the file, too


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Fail tests that are skipped in CI, except for what no installed part changes."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2]
        if not any(accepted in reason for accepted in MAY_BE_SKIPPED):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} does not run in CI. {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[pytest.CollectReport]:
    """Fail files that are skipped as a whole in CI: a missing package would take their tests away."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} does not run in CI. {report.longrepr[2]}"
    return report


@pytest.fixture(autouse=True)
def pillow_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that import ultralytics replace `PIL.Image.open` for all that come after.

    Its own raises ModuleNotFoundError for a damaged picture where Pillow says what is wrong.
    """
    monkeypatch.setattr(Image, "open", PILLOW_OPEN)


@pytest.fixture(scope="session", autouse=True)
def index_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is made of the indexes of shard sets out of the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_INDEX_CACHE", str(tmp_path_factory.mktemp("indexes")))
        yield


@pytest.fixture(scope="session", autouse=True)
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep engines and times of backends out of the user's folder; all workers share them."""
    with pytest.MonkeyPatch.context() as patch:
        base = tmp_path_factory.getbasetemp()
        folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        patch.setenv("EMOTION_ENGINE_CACHE", str(folder / "engine-cache"))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test data; a stranger's clone lacks it, CI must have it."""
    folder = Path(os.environ.get("EMOTION_TEST_DATA", ROOT / ".." / "shared")).resolve()
    if not folder.is_dir():
        reason = f"test data not found at {folder}; set EMOTION_TEST_DATA to its folder"
        pytest.fail(reason) if IN_CI else pytest.skip(reason)
    return folder
