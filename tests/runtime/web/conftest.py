"""A server and a browser that the tests of a module share."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from served import Served


@pytest.fixture(scope="module")
def served() -> Iterator["Served"]:
    from served import MANY, serving  # noqa: PLC0415 - skips where the extra is missing

    from emotion_runtime.web.opening import WebOptions  # noqa: PLC0415 - as above

    with serving(WebOptions(place="127.0.0.1:0", allow_adding=True, limits=MANY)) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from browser_page import PROGRAMS, api  # noqa: PLC0415 - skips where Playwright is missing

    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()
