"""The page in a real browser: people appear, it survives a restart, and it fits a telephone.

Needs Chromium; `EMOTION_CHROMIUM` names its program if it is none of those below.
"""

import os
import shutil
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from served import MANY, Served, serving

from emotion_runtime.types import AggregateLine, StatusLine
from emotion_runtime.web.opening import WebOptions
from emotion_runtime.web.sign import Sign
from emotion_runtime.web.state import WebContent

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
PROGRAMS = (os.environ.get("EMOTION_CHROMIUM", ""), "chromium", "google-chrome", "chromium-browser")
SIZES = {"telephone": (390, 844), "desktop": (1280, 900)}
TOKEN = "a-token-of-more-than-16-characters"  # noqa: S105 - of the tests
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


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


@pytest.mark.parametrize(("size", "scheme"), [("telephone", "light"), ("desktop", "dark")])
def test_people_appear_and_are_updated(browser: Any, served: Served, size: str, scheme: str):
    page, problems = opened(browser, served, size, scheme)
    assert page.title() == "emotion-runtime"
    assert page.locator("article.card").count() == 2
    assert page.locator("article.card .top").first.inner_text() == "happiness 57 %"
    assert "not sure" in page.locator("article.card .top").nth(1).inner_text()
    assert page.get_by_text("Emotion recognition is running").is_visible()
    before = int(page.locator("#live canvas").get_attribute("data-frame"))
    until(page, f"+document.querySelector('#live canvas').dataset.frame > {before + 5}")
    page.wait_for_selector("#shares li")
    assert page.locator("#shares li").all_inner_texts() == ["happiness 100 %"]
    assert "person 1: no label → happiness" in page.locator("#changes").inner_text()
    assert page.locator("#timelines .person-line").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    assert page.evaluate(
        """() => {
            const canvas = document.querySelector("#overall");
            const context = canvas.getContext("2d");
            return context.getImageData(canvas.width - 9, canvas.height - 3, 1, 1).data[3];
        }"""
    )  # something is drawn
    check_accessible(page)
    assert not problems
    page.close()


@pytest.mark.nightly
@pytest.mark.parametrize(("size", "scheme"), [("telephone", "dark"), ("desktop", "light")])
def test_the_other_schemes_are_accessible_too(browser: Any, served: Served, size: str, scheme: str):
    page, problems = opened(browser, served, size, scheme)
    check_accessible(page)
    assert not problems
    page.close()


def test_labels_of_people_side_by_side_hide_neither_each_other_nor_a_head(browser: Any):
    """Four heads of a classroom in an image 420 pixels wide, a row of three, and one at a corner."""
    scenes = [
        [[57, 126, 82, 154], [109, 104, 127, 128], [201, 109, 217, 128], [267, 130, 291, 156]],
        [[100, 60, 130, 95], [135, 60, 165, 95], [170, 60, 200, 95]],
        [[2, 2, 30, 36], [380, 200, 418, 234]],
    ]
    with serving(WebOptions(place="127.0.0.1:0", limits=MANY)) as served:
        page, problems = opened(browser, served, people=False)
        for boxes in scenes:
            labels = page.evaluate(
                """async (boxes) => {
                  const { placeLabel } = await import("/picture.js");
                  const labels = [];
                  for (const box of boxes) {
                    const others = boxes.filter((each) => each !== box);
                    labels.push(placeLabel(box, [100, 18], [420, 236], labels, others));
                  }
                  return labels;
                }""",
                boxes,
            )
            for number, label in enumerate(labels):
                assert min(label[:2]) >= 0
                assert label[2] <= 420
                assert label[3] <= 236
                others = [*labels[:number], *labels[number + 1 :], *boxes]
                assert [other for other in others if common_area(label, other) > 0] == []
        page.close()
    assert problems == []


def common_area(a: list[float], b: list[float]) -> float:
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    return max(width, 0) * max(height, 0)


def test_the_key_m_sets_a_marker_but_not_while_one_types(browser: Any, served: Served):
    page, problems = opened(browser, served)
    page.keyboard.press("m")
    page.wait_for_selector("#markers li")
    page.fill("#marker-text", "")
    page.type("#marker-text", "moment")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#markers').innerText.includes('moment')")
    assert page.locator("#markers li").count() == 2
    assert served.json("POST", "/markers", {"text": "by a program"})[0] == 201
    until(page, "document.querySelector('#markers').innerText.includes('by a program')")
    page.uncheck("#marker-key")
    page.locator("h1").click()
    page.keyboard.press("m")
    page.wait_for_timeout(300)
    assert page.locator("#markers li").count() == 3
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
    until(page, "document.querySelector('#notice').innerText === 'Emotion recognition is paused'")
    page.get_by_role("button", name="Resume door").click()
    until(page, "document.querySelector('#notice').innerText === 'Emotion recognition is running'")
    page.close()


def test_a_source_that_has_ended_cannot_be_paused(browser: Any):
    with serving(WebOptions(place="127.0.0.1:0", limits=MANY)) as found:
        page, _ = opened(browser, found)
        found.sink.write_status(StatusLine(source="yard", time=datetime.now(timezone.utc), status="ended"))
        until(page, "document.querySelectorAll('[aria-label=\"Pause yard\"]').length === 1")
        assert page.get_by_role("button", name="Pause door").is_visible()
        assert not page.locator('[aria-label="Pause yard"]').is_visible()
        page.close()


def test_the_page_is_used_with_the_keyboard(browser: Any, served: Served):
    page, _ = opened(browser, served)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the people"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "people"
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert reached >= {
        "Pause",
        "camera-uri",
        "Add",
        "marker-text",
        "Set a marker now",
        "marker-key",
        "changes",
    }
    page.close()


def test_the_notice_is_filled_in_and_accessible(browser: Any):
    sign = Sign(who="Museum", why="Study", kept="Nothing", contact="a@b.example", cameras=("door",))
    with serving(WebOptions(place="127.0.0.1:0", limits=MANY, sign=sign)) as found:
        page = browser.new_page()
        page.goto(f"{base(found)}/notice")
        assert page.locator("dd").all_inner_texts() == [
            "Museum",
            "Images from these cameras: door. From them: labels of emotions with probabilities.",
            "Study",
            "Nothing",
            "a@b.example",
        ]
        check_accessible(page)
        page.emulate_media(media="print")
        assert not page.locator(".screen-only").is_visible()
        page.close()


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


def test_with_counts_only_the_page_shows_counts(browser: Any):
    with serving(WebOptions(place="127.0.0.1:0", limits=MANY), WebContent(least=2, images=False)) as found:
        page, problems = opened(browser, found, people=False)
        found.sink.write_aggregate(
            AggregateLine(source="door", t=0, people=3, counts={"happiness": 1, "sadness": 2})
        )
        page.wait_for_selector("#counts li")
        assert "door: 3 people: sadness 2, happiness 1" in page.locator("#counts").inner_text()
        assert "No images are served" in page.locator("#live").inner_text()
        assert not page.locator("#cards").is_visible()
        assert not page.locator("#changes").is_visible()
        check_accessible(page)
        assert not problems
        page.close()


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
    assert "Nobody is in view" not in page.locator("#people").inner_text()
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
