"""The page in a real browser: who gets in, what others can do with it, and restarts of the server."""

from pathlib import Path
from typing import Any

import pytest
from browser_page import SIZES, base, check_accessible, opened, until
from served import MANY, Served, serving

from emotion_runtime.web.opening import WebOptions

pytestmark = pytest.mark.slow
TOKEN = "a-token-of-more-than-16-characters"  # noqa: S105 - of the tests


def test_one_signs_in_with_the_printed_address_or_the_form(browser: Any, tmp_path: Path):
    (tmp_path / "token").write_text(TOKEN)
    options = WebOptions(place="0.0.0.0:0", token_file=str(tmp_path / "token"), limits=MANY)
    with serving(options) as found:
        for path in (f"/sign-in?token={TOKEN}", "/"):
            context = browser.new_context()
            page = context.new_page()
            page.goto(base(found) + path)
            if path == "/":
                check_accessible(page)
                page.fill("#token", "wrong")
                page.keyboard.press("Enter")
                page.wait_for_selector("[role=alert]")
                page.fill("#token", TOKEN)
                page.keyboard.press("Enter")
            page.wait_for_selector("article.card .bars li")
            assert page.url == f"{base(found)}/"
            assert TOKEN not in page.content() + str(context.cookies())
            assert page.evaluate("document.cookie") == ""  # scripts cannot read it
            context.close()


@pytest.mark.nightly
def test_after_a_restart_with_another_token_one_signs_in_again(browser: Any):
    context = browser.new_context()
    page = context.new_page()
    with serving(WebOptions(place="0.0.0.0:0", limits=MANY)) as first:
        port = first.port
        token = first.line.partition("token=")[2].split()[0]
        page.goto(f"{base(first)}/sign-in?token={token}")
        page.wait_for_selector("article.card .bars li")
    with serving(WebOptions(place=f"0.0.0.0:{port}", limits=MANY)) as second:
        page.get_by_role("link", name="Sign in again").click()
        page.fill("#token", second.line.partition("token=")[2].split()[0])
        page.keyboard.press("Enter")
        page.wait_for_selector("article.card .bars li")
    context.close()


def test_nothing_of_others_runs_or_is_loaded(browser: Any, served: Served):
    page, _ = opened(browser, served)
    blocked = page.evaluate(
        """() => new Promise((done) => {
            const found = [];
            document.addEventListener("securitypolicyviolation", (event) => {
                found.push(event.effectiveDirective);
                if (found.length === 4) done(found.sort());
            });
            const add = (tag, values) =>
                document.body.append(Object.assign(document.createElement(tag), values));
            add("script", { textContent: "window.ran = true" });
            add("img", { src: "http://127.0.0.1:9/x.png" });
            add("iframe", { src: "/" });
            fetch("http://127.0.0.1:9/").catch(() => {});
        })"""
    )
    assert blocked == ["connect-src", "frame-src", "img-src", "script-src-elem"]
    assert page.evaluate("window.ran") is None
    page.close()


def check_nothing_is_claimed(page: Any, size: str) -> None:
    """Check that the page does not show as present what it last heard."""
    assert not page.get_by_text("Emotion recognition is running").is_visible()
    assert page.locator("article.card").count() == 0
    assert "Nobody" not in page.locator("#people").inner_text()
    assert page.locator("#live figure:not(.stale)").count() == 0
    assert "Running for" not in page.locator(".session").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    check_accessible(page)


@pytest.mark.parametrize(
    ("size", "lost", "notice"),
    [
        ("desktop", False, "Emotion recognition has ended"),
        ("telephone", True, "Emotion recognition may be running"),
    ],
)
def test_the_page_and_its_people_survive_a_restart_of_the_server(
    browser: Any, size: str, lost: bool, notice: str
):
    with serving(WebOptions(place="127.0.0.1:0", limits=MANY)) as first:
        page, _ = opened(browser, first, size)
        port = first.port
        if lost:
            first.sink._server.close()  # without a word about the run
    until(page, "document.querySelector('#notice').innerText !== 'Emotion recognition is running'")
    assert page.locator("#notice").inner_text() == notice
    connection = "No connection; trying again" if lost else "The run has ended; waiting for the next one"
    assert page.locator("#connection").inner_text() == connection
    check_nothing_is_claimed(page, size)
    with serving(WebOptions(place=f"127.0.0.1:{port}", limits=MANY)):
        until(page, "document.querySelector('#connection').innerText === 'Connected'")
        assert page.locator("#notice").inner_text() == "Emotion recognition is running"
        until(page, "document.querySelectorAll('article.card .bars li').length > 7")
        until(page, "+document.querySelector('#live canvas').dataset.frame > 3")
    page.close()


def test_a_summary_that_comes_late_does_not_show_a_lost_run_as_running(browser: Any):
    held: list[tuple[Any, Any]] = []
    with serving(WebOptions(place="127.0.0.1:0", limits=MANY)) as served:
        page, _ = opened(browser, served)
        page.route("**/summary", lambda route: held.append((route, route.fetch())))
        until(page, "document.querySelector('#session-length').innerText !== ''")
        while not held:
            page.wait_for_timeout(100)
    until(page, "document.querySelector('#session-length').innerText === ''")
    for route, response in held:
        with page.expect_event("requestfinished"):
            route.fulfill(response=response)
    page.wait_for_timeout(200)  # for the page to read the answer
    check_nothing_is_claimed(page, "desktop")
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
