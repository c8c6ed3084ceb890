import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test data; a stranger's clone lacks it, CI must have it."""
    folder = Path(os.environ.get("EMOTION_TEST_DATA", ROOT / ".." / "shared")).resolve()
    if not folder.is_dir():
        reason = f"test data not found at {folder}; set EMOTION_TEST_DATA to its folder"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return folder
