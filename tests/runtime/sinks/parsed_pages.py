"""Sessions of a few events, and what their pages say."""

import re
from datetime import datetime, timezone
from html.parser import HTMLParser

from sample_events import event, person

from emotion_runtime.sinks.report.page import page
from emotion_runtime.sinks.report.session import Session
from emotion_runtime.types import EmotionEvent, Person, RunLine

RUN = RunLine(version="0.1.0", bundle="nano", bundle_sha256="9b0c", head="probe", options={"every": 0.5})
BOX = (1.0, 2.0, 31.0, 42.0)
START = datetime(2026, 11, 27, 1, 30, tzinfo=timezone.utc)


class Parsed(HTMLParser):
    """The tags, attributes and text of a page; unbalanced tags are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data + " "


def session_of(*tops: str | None, run: RunLine | None = RUN) -> Session:
    session = Session(run)
    for index, top in enumerate(tops):
        session.add(event(person(1, BOX, top=top), frame=index, t=index / 2))
    return session


def text_of(session: Session) -> str:
    return re.sub(r"\s+", " ", Parsed(page(session)).text)


def one(source: str, top: str | None, *, index: int = 0, person_id: int = 1, t: float = 0.0) -> EmotionEvent:
    emotions = {} if top is None else {top: 1.0}
    each = Person(id=person_id, box=BOX, score=1.0, state="steady", top=top, emotions=emotions)
    return EmotionEvent(source=source, frame=index, t=t, persons=[each])
