"""The section of a report about one source."""

from collections.abc import Iterator, Mapping, Sequence

from emotion_runtime.sinks.report.charts import chart, most_people
from emotion_runtime.sinks.report.session import Session
from emotion_runtime.sinks.report.source_log import NO_LABEL, PersonLog, SourceLog
from emotion_runtime.sinks.report.text import (
    clock,
    count,
    duration,
    escaped,
    in_order,
    name,
    percent,
    table,
    utc,
)
from emotion_runtime.summary import PersonSummary, SourceSummary

_PERSONS = 20  # those seen longest
_QUALITY = {
    "head_px": ("head", "{:.0f} pixels wide"),
    "sharpness": ("sharpness", "{:.2f}"),
    "inside": ("inside the frame", "{:.2f}"),
    "frontal": ("facing the camera", "{:.2f}"),
}


def source_section(session: Session, source: str) -> Iterator[str]:
    """Yield the section about a source, as parts of HTML."""
    log, found = session.sources[source], session.summary(source)
    yield f"<section><h2>{name(source)}</h2>"
    yield from _facts(log, found)
    if log.spent and log.length > 0:
        yield from _people_over_time(session.labels, log)
    if log.reasons:
        yield _reasons("Reasons for no label, all people together", log.reasons)
    yield from _persons(session.labels, log, found)
    yield from _changes(log)
    yield from _statuses(log)
    yield "</section>"


def _persons(labels: Sequence[str], log: SourceLog, found: SourceSummary) -> Iterator[str]:
    if not log.ids:
        seen = sum(log.spent.values())
        if seen > 0:
            yield shares_list(labels, {label: seconds / seen for label, seconds in log.spent.items()})
        return
    longest = sorted(found.persons, key=lambda person: -person.seconds)[:_PERSONS]
    for person in longest:
        yield from _person(labels, person, log)
    others = len(found.persons) - len(longest) + found.others
    if others and longest:
        text = f"and {count(others, 'more person', 'more people')}, each seen for "
        yield f'<p class="quiet">{text}{duration(longest[-1].seconds)} or less</p>'


def shares_list(labels: Sequence[str], shares: Mapping[str, float]) -> str:
    """Return a list of labels with their shares of 1, the largest first, which is the legend, too."""
    classes = _classes(labels)
    items = [
        f'<li><i class="{classes[label]}"></i>{name(label) if label else "no label"} {percent(share)}</li>'
        for label, share in in_order(shares)
    ]
    return f'<ul class="shares">{"".join(items)}</ul>'


def _classes(labels: Sequence[str]) -> dict[str, str]:
    return {label: f"k{index}" for index, label in enumerate(labels)} | {NO_LABEL: "none"}


def _facts(log: SourceLog, found: SourceSummary) -> Iterator[str]:
    facts = {
        "time": duration(found.seconds),
        "frames": f"{log.frames:,}",
        "people": f"{len(found.persons) + found.others:,}" if log.ids else "not counted",
        "changes of a label": f"{log.change_count:,}",
        "frames dropped": f"{log.dropped:,}",
    }
    if log.start is not None:
        facts = {"began": utc(log.start)} | facts
    if log.latency:
        facts["latency, mean"] = f"{log.latency / log.frames:.0f} ms"
        facts["latency, longest"] = f"{log.longest_latency:.0f} ms"
    yield "<dl>"
    yield from (f"<div><dt>{fact}</dt><dd>{value}</dd></div>" for fact, value in facts.items())
    yield "</dl>"


def _people_over_time(labels: Sequence[str], log: SourceLog) -> Iterator[str]:
    people = most_people(log.timeline, log.length)
    text = f"People over time by label, at most {round(people, 1):g} at once"
    drawn = chart(log.timeline, log.length, _classes(labels), text, people)
    yield f"<figure>{drawn}{_axis(log.length)}<figcaption>{text}</figcaption></figure>"


def _axis(length: float) -> str:
    times = "".join(f"<span>{clock(part * length)}</span>" for part in (0, 0.5, 1))
    return f'<div class="axis" aria-hidden="true">{times}</div>'


def _person(labels: Sequence[str], person: PersonSummary, log: SourceLog) -> Iterator[str]:
    shares = person.emotions | {NO_LABEL: max(1 - sum(person.emotions.values()), 0.0)}
    yield (
        f"<article><h3>Person {person.id}</h3>"
        f'<p class="quiet">seen for {duration(person.seconds)} between {clock(person.first)} and '
        f"{clock(person.last)}; {count(person.changes, 'change', 'changes')} of the label</p>"
    )
    known = log.persons.get(person.id)
    if known is not None and log.length > 0:
        main = ", ".join(f"{label or 'no label'} {percent(share)}" for label, share in in_order(shares)[:4])
        yield chart(known.timeline, log.length, _classes(labels), f"Person {person.id} over time: {main}")
    if person.seconds > 0:
        yield shares_list(labels, shares)
    if known is not None:
        yield from _view(known)
    yield "</article>"


def _view(known: PersonLog) -> Iterator[str]:
    means = known.quality()
    quality = [f"{_QUALITY[key][0]} {_QUALITY[key][1].format(mean)}" for key, mean in means.items()]
    if quality:
        yield f'<p class="quiet">Quality of view, on average: {", ".join(quality)}.</p>'
    if known.reasons:
        yield _reasons("Reasons for no label", known.reasons)


def _reasons(title: str, seconds: Mapping[str, float]) -> str:
    reasons = ", ".join(f"{escaped(why)} {duration(each)}" for why, each in in_order(seconds))
    return f'<p class="quiet">{title}: {reasons or "none"}.</p>'


def _changes(log: SourceLog) -> Iterator[str]:
    if not log.changes:
        return
    title = "Moments of change"
    if log.change_count > len(log.changes):
        title = f"The last {len(log.changes)} of {log.change_count:,} moments of change"
    rows = [
        [
            clock(change.t) + ("" if change.time is None else f"<br>{utc(change.time)}"),
            str(change.person),
            name(change.before),
            name(change.after),
        ]
        for change in log.changes
    ]
    yield f"<details><summary>{title}</summary>{table(('time', 'person', 'from', 'to'), rows)}</details>"


def _statuses(log: SourceLog) -> Iterator[str]:
    if not log.statuses:
        return
    title = "Status of the source"
    if log.status_count > len(log.statuses):
        title = f"The last {len(log.statuses)} of {log.status_count:,} changes of the status"
    rows = [[utc(line.time), line.status, escaped(line.reason or "")] for line in log.statuses]
    yield f"<details><summary>{title}</summary>{table(('time', 'status', 'reason'), rows)}</details>"
