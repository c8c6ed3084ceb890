import os
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PILLOW_OPEN = Image.open

# Before torch is loaded: the threads of several workers would slow each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that take minutes, unless they are asked for."""
    if "nightly" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if "nightly" in item.keywords])
        items[:] = [item for item in items if "nightly" not in item.keywords]


@pytest.fixture(autouse=True)
def pillow_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that import ultralytics replace `PIL.Image.open` for all that come after.

    Its own raises ModuleNotFoundError for a damaged picture where Pillow says what is wrong.
    """
    monkeypatch.setattr(Image, "open", PILLOW_OPEN)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test data; a stranger's clone lacks it, CI must have it."""
    folder = Path(os.environ.get("EMOTION_TEST_DATA", ROOT / ".." / "shared")).resolve()
    if not folder.is_dir():
        reason = f"test data not found at {folder}; set EMOTION_TEST_DATA to its folder"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return folder
