"""The page in a real browser: people appear, and it fits a telephone, a keyboard and a reader of screens."""

import time
from datetime import datetime, timezone
from typing import Any

import pytest
from browser_page import SIZES, base, check_accessible, opened, until
from served import MANY, Served, serving

from emotion_runtime.types import AggregateLine, StatusLine
from emotion_runtime.web.opening import WebOptions
from emotion_runtime.web.sign import Sign
from emotion_runtime.web.state import WebContent

pytestmark = pytest.mark.slow


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


def test_who_is_not_detected_is_not_said_to_be_out_of_view(browser: Any):
    with serving(WebOptions(place="127.0.0.1:0", limits=MANY)) as served:
        page, _ = opened(browser, served)
        served.single_people = False  # as when all turn away
        until(page, "document.querySelector('#cards').innerText === 'Nobody is detected.'")
        described = "document.querySelector('#live canvas').getAttribute('aria-label')"
        until(page, f"{described}.endsWith(': nobody detected')")
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
