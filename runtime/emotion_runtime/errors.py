"""Errors that a user can fix. Everything else is a bug and keeps its traceback."""


class EmotionError(Exception):
    """A user's mistake, described in one line: what happened, what was expected, what to do.

    The command line prints the message and exits with status 2.
    """


class SourceBroken(EmotionError):  # noqa: N818 - names the event
    """A source failed after delivering frames; results so far are valid and kept."""
