"""The page of a report: one file of HTML that loads nothing and runs nothing."""

from collections.abc import Iterator, Sequence

import msgspec

from emotion_runtime import __version__
from emotion_runtime.rounding import rounded
from emotion_runtime.sinks.report.session import Session
from emotion_runtime.sinks.report.source_section import shares_list, source_section
from emotion_runtime.sinks.report.style import style
from emotion_runtime.sinks.report.text import count, duration, escaped, name, percent, table, utc
from emotion_runtime.types import Person

_TITLE = "Emotion recognition report"
# Should something from outside ever get through as markup, it still could not load or run anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(session: Session, notes: Sequence[str] = ()) -> str:
    """Return the page about a session, whose last frames are counted then.

    Args:
        session: The session.
        notes: Sentences about where the events come from.
    """
    session.finish()
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{_TITLE}</title>\n<style>{style(session.labels)}</style>\n</head>\n<body>\n<main>",
            f"<h1>{_TITLE}</h1>",
            *_notice(session),
            *(f'<p class="quiet">{escaped(note)}</p>' for note in notes),
            *_whole(session),
            *(part for source in session.sources for part in source_section(session, source)),
            *_left_out(session),
            *_photos(session),
            *_provenance(session),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _notice(session: Session) -> Iterator[str]:
    names = [name(source) for source in session.sources]
    photos, more = len(session.photos) + session.more_photos, len(session.more_sources)
    names += [count(more, "more source", "more sources")] * (more > 0)
    names += [count(photos, "photo", "photos")] * (photos > 0)
    where = ", ".join(names) or "no frames"
    times = [log.start for log in session.sources.values() if log.start is not None]
    ends = [log.end for log in session.sources.values() if log.end is not None]
    when = f" from {utc(min(times))} to {utc(max(ends))}" if times and ends else ""
    yield f'<div class="notice"><strong>Emotion recognition ran</strong> on {where}{when}.'
    yield (
        "A label says how a face looked to a model, which is often wrong, and not what a person felt. "
        "Ids are numbers within one session and identify nobody. This page holds no images.</div>"
    )


def _whole(session: Session) -> Iterator[str]:
    summaries = {source: session.summary(source) for source in session.sources}
    frames = sum(found.frames for found in summaries.values())
    people = sum(len(found.persons) + found.others for found in summaries.values())
    spent: dict[str, float] = {}
    for log in session.sources.values():
        for label, seconds in log.spent.items():
            spent[label] = spent.get(label, 0.0) + seconds
    seen = sum(spent.values())
    if not summaries:
        return
    yield "<h2>Over all</h2><dl>"
    facts = {
        "sources": f"{len(summaries) + len(session.more_sources):,}",
        "time": duration(sum(found.seconds for found in summaries.values())),
        "frames": f"{frames:,}",
        "people": f"{people:,}" if all(log.ids for log in session.sources.values()) else "not counted",
        "time of all people together": duration(seen),
        "frames dropped": f"{sum(log.dropped for log in session.sources.values()):,}",
    }
    yield from (f"<div><dt>{fact}</dt><dd>{value}</dd></div>" for fact, value in facts.items())
    yield "</dl>"
    if seen > 0:
        shares = {label: seconds / seen for label, seconds in spent.items()}
        yield f"<p>Of the time of all people together:</p>{shares_list(session.labels, shares)}"
    else:
        yield "<p>Nobody was seen for long enough to be counted.</p>"


def _left_out(session: Session) -> Iterator[str]:
    if session.more_sources:
        more = count(len(session.more_sources), "more source is", "more sources are")
        yield f"<h2>Other sources</h2><p>{more} left out of this page and of its numbers.</p>"


def _photos(session: Session) -> Iterator[str]:
    if not session.photos:
        return
    rows = [
        [name(source), "; ".join(map(_in_photo, persons)) or "nobody found"]
        for source, persons in session.photos
    ]
    yield f"<h2>Photos</h2>{table(('photo', 'people'), rows)}"
    if session.more_photos:
        yield f'<p class="quiet">and {count(session.more_photos, "more photo", "more photos")}</p>'


def _in_photo(person: Person) -> str:
    who = f"person {person.id}" if person.id else "one person"
    if person.top is None:
        return f"{who}: no label ({person.why})"
    return f"{who}: {name(person.top)} {percent(person.emotions.get(person.top, 0.0))}"


def _provenance(session: Session) -> Iterator[str]:
    yield "<h2>What made these results</h2>"
    if session.run is None:
        yield "<p>The events do not say which model and options made them.</p>"
    else:
        run = session.run
        yield (
            f"<p>Model {name(run.bundle)}, head {name(run.head)}, emotion-runtime {escaped(run.version)}, "
            "with these options that are not the defaults:</p>"
        )
        text = msgspec.json.format(msgspec.json.encode(rounded(run)), indent=2).decode()
        yield "<pre>" + "\n".join(map(escaped, text.splitlines())) + "</pre>"
    yield f'<p class="quiet">Page made by emotion-runtime {escaped(__version__)}.</p>'
