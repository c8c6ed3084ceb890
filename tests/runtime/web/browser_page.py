"""The page of a run in a real browser.

Needs Chromium; `EMOTION_CHROMIUM` names its program if it is none of those below.
"""

import os
import time
from typing import Any

import pytest
from served import Served

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
PROGRAMS = (os.environ.get("EMOTION_CHROMIUM", ""), "chromium", "google-chrome", "chromium-browser")
SIZES = {"telephone": (390, 844), "desktop": (1280, 900)}


def until(page: Any, expression: str, seconds: float = 30) -> None:
    """Wait for an expression; `wait_for_function` would need what the content security policy forbids."""
    give_up = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < give_up, expression
        page.wait_for_timeout(100)


def base(served: Served) -> str:
    return f"http://127.0.0.1:{served.port}"


def opened(
    browser: Any, served: Served, size: str = "desktop", scheme: str = "light", *, people: bool = True
) -> tuple[Any, list[str]]:
    """Open the page. Return it, and what is wrong with it: errors, and requests to other hosts."""
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    problems: list[str] = []
    here = (f"{base(served)}/", f"ws://127.0.0.1:{served.port}/")
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda one: None if one.url.startswith(here) else problems.append(one.url))
    page.on("websocket", lambda one: None if one.url.startswith(here) else problems.append(one.url))
    page.goto(f"{base(served)}/")
    if people:
        page.wait_for_selector("article.card .bars li")
    return page, problems


def check_accessible(page: Any) -> None:
    # The script of axe is inserted by the debugger, which the content security policy does not concern.
    results = axe.Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
