"""The page in a real browser: people appear, it survives a restart, and it fits a telephone.

Needs playwright and Chromium (`EMOTION_CHROMIUM`, or /usr/bin/chromium), which no extra installs.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import MANY, Served, serving

from emotion_runtime.web.opening import WebOptions

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = Path(os.environ.get("EMOTION_CHROMIUM", "/usr/bin/chromium"))
SIZES = {"telephone": (390, 844), "desktop": (1280, 900)}
pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} does not exist: apt-get install chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(WebOptions(place="127.0.0.1:0", limits=MANY)) as found:
        yield found


def until(page: Any, expression: str, seconds: float = 20) -> None:
    """Wait for an expression; `wait_for_function` would need what the content security policy forbids."""
    give_up = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < give_up, expression
        page.wait_for_timeout(100)


def opened(
    browser: Any, served: Served, size: str = "desktop", scheme: str = "light"
) -> tuple[Any, list[str]]:
    """Open the page. Return it, and what it complains about."""
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"http://127.0.0.1:{served.port}/")
    page.wait_for_selector("article.card .bars li")
    return page, problems


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_people_appear_and_are_updated(browser: Any, served: Served, size: str, scheme: str):
    page, problems = opened(browser, served, size, scheme)
    assert page.locator("article.card").count() == 2
    assert page.locator("article.card .top").first.inner_text() == "happiness 57 %"
    assert "not sure" in page.locator("article.card .top").nth(1).inner_text()
    before = int(page.locator("#live canvas").get_attribute("data-frame"))
    until(page, f"+document.querySelector('#live canvas').dataset.frame > {before + 5}")
    page.wait_for_selector("#shares li")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    folder = os.environ.get("EMOTION_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(3500)
        page.screenshot(path=str(Path(folder) / f"page-{size}-{scheme}.png"), full_page=True)
    assert not problems
    page.close()


def test_the_key_m_sets_a_marker_but_not_while_one_types(browser: Any, served: Served):
    page, problems = opened(browser, served)
    page.keyboard.press("m")
    page.wait_for_selector("#markers li")
    page.fill("#marker-text", "")
    page.type("#marker-text", "moment")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#markers').innerText.includes('moment')")
    assert page.locator("#markers li").count() == 2
    page.uncheck("#marker-key")
    page.locator("h1").click()
    page.keyboard.press("m")
    page.wait_for_timeout(300)
    assert page.locator("#markers li").count() == 2
    assert not problems
    page.close()


def test_a_camera_is_paused_with_the_keyboard(browser: Any, served: Served):
    page, _ = opened(browser, served)
    page.get_by_role("button", name="Pause door").focus()
    page.keyboard.press("Enter")
    give_up = time.monotonic() + 5
    while not served.sources.paused["door"] and time.monotonic() < give_up:
        page.wait_for_timeout(50)
    assert served.sources.paused["door"]
    page.close()


def test_axe_finds_no_violation(browser: Any, served: Served):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    for scheme in ("light", "dark"):
        page, _ = opened(browser, served, scheme=scheme)
        # Its script is inserted by the debugger, which the content security policy does not concern.
        results = axe.Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
        page.goto(f"http://127.0.0.1:{served.port}/notice")
        results = axe.Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
        page.close()


def test_the_page_survives_a_restart_of_the_server(browser: Any):
    with serving(WebOptions(place="127.0.0.1:0", limits=MANY)) as first:
        page, _ = opened(browser, first)
        port = first.port
    until(page, "document.querySelector('#connection').innerText.includes('No connection')")
    with serving(WebOptions(place=f"127.0.0.1:{port}", limits=MANY)):
        until(page, "document.querySelector('#connection').innerText === 'Connected'")
        until(page, "+document.querySelector('#live canvas').dataset.frame > 3")
    page.close()


def test_another_site_sees_nothing(browser: Any, served: Served):
    page = browser.new_page()
    page.goto("data:text/html,<body></body>")
    opened_socket = page.evaluate(
        """(port) => new Promise((done) => {
            const socket = new WebSocket(`ws://127.0.0.1:${port}/watch`);
            socket.onopen = () => done(true);
            socket.onerror = () => done(false);
        })""",
        served.port,
    )
    assert not opened_socket
    loaded = page.evaluate(
        """(port) => new Promise((done) => {
            const image = new Image();
            image.onload = () => done(true);
            image.onerror = () => done(false);
            image.src = `http://127.0.0.1:${port}/stream.mjpg`;
        })""",
        served.port,
    )
    assert not loaded
    page.close()
