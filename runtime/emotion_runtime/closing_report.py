"""What a run prints at its end: the people, their emotions, the files written."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from emotion_runtime.metrics import RunReport
from emotion_runtime.summary import PersonSummary, SourceSummary
from emotion_runtime.types import Person

_PERSONS = 20  # per source, those seen longest; of more people only the number is printed
_LABELS = 3  # per person
_SMALLEST = 0.01  # smaller shares are left out


def closing_lines(
    report: RunReport,
    sources: Mapping[str, SourceSummary],
    files: Iterable[Path | str],
    partial_files: Iterable[Path | str] = (),
    *,
    ids: bool = True,
    zones: bool = False,
) -> list[str]:
    """Return the lines that a run prints at its end, before the one with the time spent.

    Args:
        report: What was counted.
        sources: The summary of each source.
        files: The files written.
        partial_files: Files of outputs that failed.
        ids: Whether the lines of people have their ids.
        zones: Whether parts of the images were filled before the detector saw them.
    """
    lines = people_lines(sources, named=len(sources) + len(report.photos) > 1, ids=ids)
    for photo, persons in report.photos.items():
        lines += photo_lines(photo, persons, ids=ids)
    if report.more_photos:
        lines.append(f"and {report.more_photos} more photos")
    if report.frames and not report.found:
        lines = [nobody_line(report.frames, zones=zones)]
    wrote = files_line("wrote", files), files_line("incomplete, because this output failed:", partial_files)
    return [*lines, *filter(None, wrote)]


def people_lines(sources: Mapping[str, SourceSummary], *, named: bool, ids: bool = True) -> list[str]:
    """Return one line per person of each source, such as "person 1: 5.8 s: happiness 94 %, neutral 6 %".

    Args:
        sources: The summary of each source.
        named: Whether the name of the source comes first, and a source without people has a line, too.
        ids: Whether the lines have the ids of the people.
    """
    return [
        f"{name}: {line}" if named else line
        for name, found in sources.items()
        for line in _source_lines(found, ids=ids) or ["nobody found"] * named
    ]


def _source_lines(found: SourceSummary, *, ids: bool) -> list[str]:
    longest = sorted(found.persons, key=lambda person: -person.seconds)[:_PERSONS]
    shown = {person.id for person in longest}
    lines = [
        f"{_name(person.id, ids=ids)}: {person.seconds:.1f} s: {shares_text(person)}"
        for person in found.persons
        if person.id in shown
    ]
    others = len(found.persons) - len(shown) + found.others
    if others:
        lines.append(
            f"and {others} more {_people(others)}, each seen for {longest[-1].seconds:.1f} s or less"
        )
    return lines


def shares_text(person: PersonSummary) -> str:
    """Return the main emotions of a person, with the share of the time for which each was shown."""
    shares = [(label, share) for label, share in person.emotions.items() if share >= _SMALLEST][:_LABELS]
    without = 1 - sum(person.emotions.values())
    if without >= _SMALLEST or not shares:
        shares.append(("no label", without))
    return ", ".join(f"{label} {_percent(share)}" for label, share in shares)


def photo_lines(photo: str, persons: Sequence[Person], *, ids: bool = True) -> list[str]:
    """Return one line per person of a photo, such as "photo.jpg: person 1 happiness 96 %"."""
    if not persons:
        return [f"{photo}: nobody found"]
    return [f"{photo}: {_name(person.id, ids=ids)} {_label(person)}" for person in persons]


def _name(person_id: int, *, ids: bool) -> str:
    return f"person {person_id}" if ids else "one person"


def _label(person: Person) -> str:
    if person.top is None:
        return f"no label ({person.why})"
    return f"{person.top} {_percent(person.confidence or 0.0)}"


def files_line(verb: str, files: Iterable[Path | str]) -> str:
    """Return one line that names files after what happened to them; "" if there are none."""
    names = [str(file) for file in files]
    shown = [*names[:5], f"{len(names) - 5} more"] if len(names) > 6 else names
    return f"{verb} {', '.join(shown)}" if names else ""


def nobody_line(frames: int, *, zones: bool = False) -> str:
    """Return the hint for a run in which nobody was found; with zones, they are the likelier cause."""
    where = f"nobody was found in {frames} {'frame' if frames == 1 else 'frames'}"
    causes = "heads may be too small for the detector; try --detector-size 1280"
    if zones:
        where += " outside the zones"
        causes = f"a --zone may cover the people; make it smaller, or omit it; or {causes}"
    return (
        f"{where}: {causes}, --detector-score 0.2, or a person detector with --detector FILE.onnx "
        "(working range: docs/detection.md)"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _people(count: int) -> str:
    return "person" if count == 1 else "people"
