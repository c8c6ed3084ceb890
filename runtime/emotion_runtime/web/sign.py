"""The printable notice that tells people that emotion recognition is running."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Emotion recognition is running</title>
<link rel="stylesheet" href="/app.css">
<link rel="icon" href="/icon.svg">
</head>
<body>
<main class="narrow sign">
<img src="/icon.svg" alt="">
<h1>Emotion recognition is running</h1>
<p class="lead">A computer analyses images of people here, and estimates how they appear to feel.</p>
<dl>
{rows}</dl>
<p class="small">The estimates are often wrong: a face does not show what somebody feels.</p>
<p class="small screen-only">To print this page, use the print command of your browser.</p>
</main>
</body>
</html>
"""
_MISSING = "(to be filled in before this page is printed: {flag})"


@dataclass(frozen=True, slots=True)
class Sign:
    """What the notice says; an empty text is one that the operator still has to give.

    Attributes:
        who: Who is responsible.
        why: The purpose.
        kept: What is stored, and for how long.
        contact: Whom people can ask.
        cameras: Names of the cameras that the run began with.
        stored: What this run writes, in words.
    """

    who: str = ""
    why: str = ""
    kept: str = ""
    contact: str = ""
    cameras: tuple[str, ...] = ()
    stored: str = ""


def sign_page(sign: Sign, cameras: Sequence[str] = ()) -> str:
    """Return the notice as a page.

    Args:
        sign: What it says.
        cameras: Names of the cameras that the run has now. None yet: those that it began with.
    """
    names = ", ".join(cameras or sign.cameras)
    what = f"Images from these cameras: {names}" if names else "Images from the cameras here"
    rows = [
        ("Who is responsible", sign.who or _MISSING.format(flag="--notice-who")),
        ("What is analysed", f"{what}. From them: labels of emotions with probabilities."),
        ("Why", sign.why or _MISSING.format(flag="--notice-why")),
        ("What is kept, and how long", sign.kept or sign.stored or _MISSING.format(flag="--notice-kept")),
        ("Questions and objections", sign.contact or _MISSING.format(flag="--notice-contact")),
    ]
    texts = "".join(f"<dt>{escape(term)}</dt>\n<dd>{escape(text)}</dd>\n" for term, text in rows)
    return _PAGE.format(rows=texts)
