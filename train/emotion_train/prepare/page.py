"""Write `statistics.html`: the statistics of a run as one page that loads nothing from elsewhere."""

import base64
import html
import io
import math
from pathlib import Path

import msgspec
from PIL import Image, ImageDraw

from emotion_runtime.files import write_atomically
from emotion_train.clips.format import PERSON_SCORE, ClipRecord
from emotion_train.clips.reader import ShardSet
from emotion_train.clips.writer import RUN_AGAIN
from emotion_train.plotting import GREY, YELLOW
from emotion_train.prepare.charts import charts
from emotion_train.prepare.statistics import Statistics
from emotion_train.tables import percent

LISTED = 200  # names shown in a list; statistics.json has all of them
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
        WriteError: A file cannot be written.
    """
    numbers = msgspec.json.format(msgspec.json.encode(statistics), indent=2) + b"\n"
    write_atomically(out / "statistics.json", numbers, fix=RUN_AGAIN)
    write_atomically(out / "statistics.html", render(statistics, _examples(out, statistics)), fix=RUN_AGAIN)


def render(statistics: Statistics, examples: str) -> str:
    """Return the page.

    Args:
        statistics: To show.
        examples: HTML of the example clips.
    """
    sentences = max(sum(statistics.sentences.values()), 1)
    tiles = (
        (f"{statistics.clips:,}", "clips"),
        (f"{statistics.clip_seconds / 3600:,.2f} h", "of speech"),
        (f"{statistics.frames:,}", "frames"),
        (f"{statistics.videos - len(statistics.broken):,} / {statistics.videos:,}", "videos used"),
        (percent(statistics.sentences["kept"] / sentences), "of the sentences kept"),
        (_size(statistics.bytes), f"in {statistics.shards:,} shards"),
    )
    numbers = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in tiles)
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
        f'<p class="sub">Written by emotion-train prepare-data; the same numbers are in statistics.json.</p>'
        f'<div class="tiles">{numbers}</div>{_warnings(statistics)}'
        f'<h2>Sentences and clips</h2><div class="plots">{plots}</div>'
        f"{examples}{_problems(statistics)}"
        f'<h2>Settings</h2><div class="card"><table>{rows}</table></div></main></body></html>\n'
    )


def warnings(statistics: Statistics) -> list[str]:
    """Return what the user should look into, one line each."""
    lines = []
    if not statistics.clips:
        lines.append("no sentence became a clip: see why sentences were left out, and loosen that filter")
    elif statistics.clips_without_persons == statistics.clips:
        lines.append(
            "no person was found in any frame, so no clip has a subject: use a --detector that finds whole "
            "people, and check that there are people in the videos"
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
        f"<p>{statistics.cues:,} caption cues: {statistics.overlapping_cues:,} begin before the previous one "
        f"ends, {statistics.repeated_cues:,} only repeat text that is already shown.</p>"
    )
    return f'<h2>Problems in the data</h2><div class="card">{cues}{"".join(parts)}</div>'


def _examples(out: Path, statistics: Statistics) -> str:
    """Return HTML of a few clips with their sentences and the detected boxes."""
    shards = ShardSet.open(str(out))
    parts = []
    for index in range(min(SHOWN_CLIPS, statistics.clips)):  # shards are shuffled, so the first are a sample
        record, frames = shards.read(index)
        image = base64.b64encode(_strip(record, frames)).decode()
        caption = f"{record.caption} ({record.video}, {record.start:.1f} to {record.end:.1f} s)"
        parts.append(
            f'<figure><img alt="" src="data:image/jpeg;base64,{image}"><figcaption>{_text(caption)}'
            "</figcaption></figure>"
        )
    return f'<h2>Examples</h2><div class="card">{"".join(parts)}</div>' if parts else ""


def _strip(record: ClipRecord, frames: list[bytes]) -> bytes:
    """Return a JPEG of a few frames side by side, with boxes around the people."""
    chosen = [round(n * (len(frames) - 1) / (SHOWN_FRAMES - 1)) for n in range(SHOWN_FRAMES)]
    scale = SHOWN_HEIGHT / record.height
    width = max(round(record.width * scale), 1)
    strip = Image.new("RGB", (width * SHOWN_FRAMES, SHOWN_HEIGHT))
    for place, frame in enumerate(chosen):
        with Image.open(io.BytesIO(frames[frame])) as image:
            small = image.convert("RGB").resize((width, SHOWN_HEIGHT), Image.Resampling.BILINEAR)
        draw = ImageDraw.Draw(small)
        for x1, y1, x2, y2, score in record.boxes[frame]:
            color = YELLOW if score > PERSON_SCORE else GREY
            draw.rectangle((x1 * scale, y1 * scale, x2 * scale, y2 * scale), outline=color, width=2)
        strip.paste(small, (place * width, 0))
    data = io.BytesIO()
    strip.save(data, "JPEG", quality=80)
    return data.getvalue()


def _size(count: int) -> str:
    power = min(int(math.log(max(count, 1), 1000)), 4)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _text(value: object) -> str:
    return html.escape(str(value))
