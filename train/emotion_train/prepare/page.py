"""`statistics.html`: what a run found, for people. One file, nothing is loaded from elsewhere."""

import base64
import html
import io
import math
from pathlib import Path

import msgspec
from PIL import Image, ImageDraw

from emotion_runtime.files import write_atomically
from emotion_train.clips.format import PERSON_SCORE
from emotion_train.clips.reader import ClipRecord, ShardSet
from emotion_train.clips.writer import RUN_AGAIN
from emotion_train.prepare.charts import charts, share
from emotion_train.prepare.statistics import Statistics

LISTED = 200  # names in a list; statistics.json has them all
SHOWN_CLIPS, SHOWN_FRAMES, SHOWN_HEIGHT = 6, 4, 150

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2b33; background: #f4f6f7; margin: 0; }
main { max-width: 1040px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 40px 0 12px; }
.sub { color: #5c6f7a; margin: 0 0 24px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tile, .card { background: #fff; border-radius: 10px; padding: 14px 18px; box-shadow: 0 1px 3px #0f2a3a1f; }
.tile b { display: block; font-size: 24px; color: #2a6f97; font-variant-numeric: tabular-nums; }
.tile span { color: #5c6f7a; font-size: 13px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 16px; }
.plots svg { width: 100%; height: auto; display: block; }
figure { margin: 0 0 14px; } figure img { max-width: 100%; border-radius: 8px; display: block; }
figcaption { color: #5c6f7a; font-size: 13px; padding-top: 4px; }
table { border-collapse: collapse; width: 100%; } td { padding: 3px 12px 3px 0; vertical-align: top; }
td:first-child { color: #5c6f7a; white-space: nowrap; }
li { overflow-wrap: anywhere; } details { margin: 6px 0; } summary { cursor: pointer; }
.warn { border-left: 4px solid #c8553d; }
"""


def write_page(out: Path, statistics: Statistics) -> None:
    """Write statistics.html and statistics.json beside the shards.

    Raises:
        WriteError: the disk is full.

    """
    numbers = msgspec.json.format(msgspec.json.encode(statistics), indent=2) + b"\n"
    write_atomically(out / "statistics.json", numbers, fix=RUN_AGAIN)
    write_atomically(out / "statistics.html", render(statistics, _examples(out, statistics)), fix=RUN_AGAIN)


def render(statistics: Statistics, examples: str) -> str:
    """The page. examples: HTML."""
    tiles = (
        (f"{statistics.clips:,}", "clips"),
        (f"{statistics.clip_seconds / 3600:,.2f} h", "of speech"),
        (f"{statistics.frames:,}", "frames"),
        (f"{statistics.videos - len(statistics.broken):,} / {statistics.videos:,}", "videos used"),
        (share(statistics.sentences["kept"], sum(statistics.sentences.values())), "of the sentences kept"),
        (_size(statistics.bytes), f"in {statistics.shards:,} shards"),
    )
    figures = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in tiles)
    plots = "".join(f'<div class="card">{svg}</div>' for svg in charts(statistics))
    settings = {
        key: value for key, value in msgspec.structs.asdict(statistics.settings).items() if key != "filters"
    } | msgspec.structs.asdict(statistics.settings.filters)
    rows = "".join(
        f"<tr><td>{_text(key)}</td><td>{_text(value)}</td></tr>" for key, value in settings.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Prepared clips</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>Prepared clips</h1>"
        f'<p class="sub">Written by emotion-train prepare-data; the same figures are in statistics.json.</p>'
        f'<div class="tiles">{figures}</div>{_warnings(statistics)}'
        f'<h2>What became of the sentences, and what the clips are like</h2><div class="plots">{plots}</div>'
        f"{examples}{_problems(statistics)}"
        f'<h2>Settings</h2><div class="card"><table>{rows}</table></div></main></body></html>\n'
    )


def warnings(statistics: Statistics) -> list[str]:
    """What should make somebody look again, a line each."""
    lines = []
    if not statistics.clips:
        lines.append("no sentence became a clip: see what was left out and why, and loosen that filter")
    elif statistics.clips_without_persons == statistics.clips:
        lines.append(
            "no person was found in any frame of any clip, so no clip has a subject: give a --detector of "
            "whole persons, or look whether there are any"
        )
    return lines


def _warnings(statistics: Statistics) -> str:
    return "".join(f'<p class="card warn">{_text(line)}</p>' for line in warnings(statistics))


def _problems(statistics: Statistics) -> str:
    broken = [f"{name}: {reason}" for name, reason in statistics.broken.items()]
    lists = (
        ("Videos or captions that could not be used", broken),
        ("Videos without captions", statistics.videos_without_captions),
        ("Captions without a video", statistics.captions_without_video),
        ("Videos excluded", statistics.excluded),
    )
    parts = []
    for title, names in lists:
        items = "".join(f"<li>{_text(name)}</li>" for name in names[:LISTED])
        rest = f"<li>and {len(names) - LISTED:,} more</li>" if len(names) > LISTED else ""
        parts.append(f"<details><summary>{title}: {len(names):,}</summary><ul>{items}{rest}</ul></details>")
    cues = (
        f"<p>{statistics.cues:,} cues: {statistics.overlapping_cues:,} begin before the one before ends, "
        f"{statistics.repeated_cues:,} only show again what was shown.</p>"
    )
    return f'<h2>What was found on the way</h2><div class="card">{cues}{"".join(parts)}</div>'


def _examples(out: Path, statistics: Statistics) -> str:
    """A few clips with their sentences and the boxes that were found."""
    shards = ShardSet.open(str(out))
    parts = []
    for number in range(min(SHOWN_CLIPS, statistics.clips)):  # shards are mixed: the first are as good as any
        record, frames = shards.read(number)
        picture = base64.b64encode(_strip(record, frames)).decode()
        said = f"{record.caption} ({record.video}, {record.start:.1f} to {record.end:.1f} s)"
        parts.append(
            f'<figure><img alt="" src="data:image/jpeg;base64,{picture}"><figcaption>{_text(said)}'
            "</figcaption></figure>"
        )
    return f'<h2>Examples</h2><div class="card">{"".join(parts)}</div>' if parts else ""


def _strip(record: ClipRecord, frames: list[bytes]) -> bytes:
    """JPEG of a few frames side by side, persons boxed."""
    chosen = [round(n * (len(frames) - 1) / (SHOWN_FRAMES - 1)) for n in range(SHOWN_FRAMES)]
    scale = SHOWN_HEIGHT / record.height
    width = max(round(record.width * scale), 1)
    strip = Image.new("RGB", (width * SHOWN_FRAMES, SHOWN_HEIGHT))
    for place, frame in enumerate(chosen):
        with Image.open(io.BytesIO(frames[frame])) as picture:
            small = picture.convert("RGB").resize((width, SHOWN_HEIGHT), Image.Resampling.BILINEAR)
        draw = ImageDraw.Draw(small)
        for x1, y1, x2, y2, score in record.boxes[frame]:
            colour = "#ffd166" if score >= PERSON_SCORE else "#8a9ba5"
            draw.rectangle((x1 * scale, y1 * scale, x2 * scale, y2 * scale), outline=colour, width=2)
        strip.paste(small, (place * width, 0))
    data = io.BytesIO()
    strip.save(data, "JPEG", quality=80)
    return data.getvalue()


def _size(count: int) -> str:
    power = min(int(math.log(max(count, 1), 1000)), 4)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _text(value: object) -> str:
    return html.escape(str(value))
