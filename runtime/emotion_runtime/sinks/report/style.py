"""The looks of a report, in light and in dark."""

from collections.abc import Sequence

from emotion_runtime.sinks.palette import UNKNOWN, Color, color_of

_DARKER = 0.78  # on white, the colours of the emotions need more contrast

CSS = """
:root { color-scheme: light dark; --ink: #16181c; --quiet: #555b66; --paper: #fff; --panel: #f3f4f6;
  --line: #d5d8de; --notice: #fff4d6; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { margin: .25rem 0; }
.quiet, figcaption, summary { color: var(--quiet); font-size: .875rem; }
.notice { background: var(--notice); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem; }
.notice strong { display: block; font-size: 1.1rem; }
figure { margin: .5rem 0; }
svg { display: block; width: 100%; height: 2rem; background: var(--panel); border-radius: .25rem; }
svg.tall { height: 7rem; }
.axis { display: flex; justify-content: space-between; color: var(--quiet); font-size: .8rem; }
ul.shares { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; margin: .5rem 0; }
ul.shares i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: .2em; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .5rem 1rem; margin: .5rem 0; }
dt { color: var(--quiet); font-size: .8rem; }
dd { margin: 0; font-weight: 600; }
details { margin: .75rem 0; }
summary { cursor: pointer; padding: .25rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); }
pre { background: var(--panel); border-radius: .25rem; padding: .75rem; white-space: pre-wrap; font-size: .8rem; }
@media (prefers-color-scheme: dark) { :root { --ink: #eceef2; --quiet: #a5acb8; --paper: #14161a;
  --panel: #22252b; --line: #3a3f48; --notice: #3a3116; } }
"""  # noqa: E501 - one rule a line


def style(labels: Sequence[str]) -> str:
    """Return the style sheet: `k0`, `k1` and so on are the colours of the labels, `none` that of no label."""
    names = [("none", UNKNOWN), *((f"k{index}", color_of(label)) for index, label in enumerate(labels))]
    light = "\n".join(_rule(name, color, _DARKER) for name, color in names)
    dark = "\n".join(_rule(name, color, 1.0) for name, color in names)
    return f"{CSS}{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def _rule(name: str, color: Color, factor: float) -> str:
    blue, green, red = (round(value * factor) for value in color)
    return (
        f".{name} {{ fill: #{red:02x}{green:02x}{blue:02x}; background: #{red:02x}{green:02x}{blue:02x}; }}"
    )
