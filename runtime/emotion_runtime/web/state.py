"""What the loop of a run and the threads of the server share."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from emotion_runtime.types import RunLine
from emotion_runtime.web.analyses import Analyses
from emotion_runtime.web.cameras import Cameras
from emotion_runtime.web.feed import EventFeed
from emotion_runtime.web.limits import WebLimits
from emotion_runtime.web.newest import Newest
from emotion_runtime.web.prometheus import Metrics
from emotion_runtime.web.session import LiveSession
from emotion_runtime.web.sign import Sign
from emotion_runtime.web.traffic import Traffic

_HANGS = 60.0  # seconds without a turn of the loop


@dataclass(frozen=True, slots=True, kw_only=True)
class WebContent:
    """What may be shown of people.

    Attributes:
        ids: Whether people have ids.
        least: Least number of people over whom counts are shown; then nobody is shown alone. None: everybody
            is.
        images: Whether images are shown.
    """

    ids: bool = True
    least: int | None = None
    images: bool = True

    @property
    def single_people(self) -> bool:
        """Whether single people are shown."""
        return self.least is None


@dataclass(slots=True)
class WebState:
    """Everything that answers are made from; each part can be used by several threads.

    Attributes:
        run: What makes the events.
        analyses: Images that clients sent.
        cameras: The cameras of the run.
        metrics: Counts for Prometheus.
        colors: CSS colours of labels.
        sign: What the printable notice says.
        limits: How much a client may ask for.
        content: What may be shown of people.
        newest: The newest frames.
        traffic: How each camera does.
        session: What happened since the beginning.
        events: Events for clients that listen.
        closing: Set when the run ends.
        viewers: Viewers of live images and events.
        removed: Cameras that clients removed; what still comes from them is not shown.
        decoding: Held while an image of a client is decoded.
        summing: Held while the view of the session is made.
    """

    run: RunLine
    analyses: Analyses
    cameras: Cameras
    metrics: Metrics
    colors: dict[str, str] = field(default_factory=dict)
    sign: Sign = field(default_factory=Sign)
    limits: WebLimits = field(default_factory=WebLimits)
    content: WebContent = field(default_factory=WebContent)
    newest: Newest = field(default_factory=Newest)
    traffic: Traffic = field(default_factory=Traffic)
    session: LiveSession = field(default_factory=LiveSession)
    events: EventFeed = field(default_factory=EventFeed)
    closing: threading.Event = field(default_factory=threading.Event)
    viewers: int = 0
    removed: set[str] = field(default_factory=set)
    decoding: asyncio.Lock = field(default_factory=asyncio.Lock)
    summing: asyncio.Lock = field(default_factory=asyncio.Lock)
    clock: Callable[[], float] = time.monotonic
    _turned: float | None = None

    def turn(self) -> None:
        """Take note of a turn of the loop of the run."""
        self._turned = self.clock()

    @property
    def ready(self) -> bool:
        """Whether the run has begun, and has not ended."""
        return self._turned is not None and not self.closing.is_set()

    @property
    def healthy(self) -> bool:
        """Whether the loop of the run does not hang."""
        return self._turned is None or self.clock() - self._turned < _HANGS

    @contextmanager
    def viewer(self) -> Iterator[bool]:
        """Count a viewer while the block runs. The value is False if there are too many already."""
        if self.viewers >= self.limits.viewers:
            yield False
            return
        self.viewers += 1
        self.metrics.set_viewers(self.viewers)
        try:
            yield True
        finally:
            self.viewers -= 1
            self.metrics.set_viewers(self.viewers)
