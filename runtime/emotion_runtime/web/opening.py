"""Open the server of a run."""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from emotion_runtime import __version__
from emotion_runtime.sinks.palette import color_of
from emotion_runtime.sources import Address
from emotion_runtime.types import RunLine
from emotion_runtime.web.access import Access, make_token, read_token
from emotion_runtime.web.analyses import Analyses, Look
from emotion_runtime.web.app import make_app
from emotion_runtime.web.cameras import Cameras, SourceControl
from emotion_runtime.web.guard import Guard
from emotion_runtime.web.limits import WebLimits
from emotion_runtime.web.place import Place, parse_place
from emotion_runtime.web.prometheus import Metrics
from emotion_runtime.web.server import WebServer, bind
from emotion_runtime.web.sign import Sign
from emotion_runtime.web.sink import WebSink
from emotion_runtime.web.state import WebContent, WebState


@dataclass(frozen=True, slots=True, kw_only=True)
class WebOptions:
    """How a run is served.

    Attributes:
        place: HOST:PORT.
        token_file: File with the token. None: one is made, unless only this machine can connect.
        names: Further host names under which the page is reached, such as that of a reverse proxy.
        allow_adding: Whether clients may add and remove cameras.
        sign: What the printable notice says.
        limits: How much a client may ask for.
    """

    place: str
    token_file: str | None = None
    names: Sequence[str] = ()
    allow_adding: bool = False
    sign: Sign = field(default_factory=Sign)
    limits: WebLimits = field(default_factory=WebLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRun:
    """What is served.

    Attributes:
        run: What makes the events.
        labels: Names of the emotions.
        look: Returns the people in an image; called in the thread of the run only.
        control: The sources of the run.
        add: Opens one more source.
        stage_seconds: Returns the time spent in each stage so far.
        content: What may be shown of people.
        addresses: The sources that the run began with.
    """

    run: RunLine
    labels: Sequence[str]
    look: Look
    control: SourceControl
    add: Callable[[Address], None]
    stage_seconds: Callable[[], Mapping[str, float]]
    content: WebContent = field(default_factory=WebContent)
    addresses: Sequence[Address] = ()


def open_web(options: WebOptions, served: ServedRun) -> tuple[WebSink, str]:
    """Start the server.

    Returns:
        The sink that feeds it, and one line with the address of the page, which may hold the token.

    Raises:
        EmotionError: The address is wrong or in use, the file of the token cannot be used, or the server does
            not start.
    """
    place = parse_place(options.place)
    token = None
    if options.token_file is not None:
        token = read_token(options.token_file)
    elif not place.loopback:
        token = make_token()
    listener = bind(place)
    place = Place(place.host, listener.getsockname()[1])
    access = Access(place, token, [*options.names, *_own_names(place)])
    state = WebState(
        run=served.run,
        analyses=Analyses(served.look),
        cameras=Cameras(
            served.control, served.add, allow_adding=options.allow_adding, first=served.addresses
        ),
        metrics=Metrics(__version__),
        colors={label: _css(label) for label in served.labels},
        sign=options.sign,
        limits=options.limits,
        content=served.content,
    )
    app = make_app(state)
    server = WebServer(listener, lambda cut_off: Guard(app, access, options.limits, cut_off), options.limits)
    line = _line(place, None if options.token_file else token)
    return WebSink(state, server, served.stage_seconds), line


def _own_names(place: Place) -> list[str]:
    """Return the names of this machine in its network, if others can connect."""
    if place.loopback:
        return []
    name = socket.gethostname().lower()
    return [f"{each}:{place.port}" for each in (name, f"{name}.local")]


def _line(place: Place, token: str | None) -> str:
    """Return where the page is. A token from a file is not printed."""
    seen = Place(_address_in_network(place.host), place.port) if place.every else place
    if token is None:
        return f"page: http://{seen}/"
    return f"page: http://{seen}/sign-in?token={token} (this token is valid until the run ends)"


def _address_in_network(host: str) -> str:
    """Return an address under which others reach this machine; nothing is sent to find it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    target = ("2001:db8::1", 9) if family == socket.AF_INET6 else ("192.0.2.1", 9)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)
            address: str = probe.getsockname()[0]
    except OSError:
        return host
    return address


def _css(label: str) -> str:
    blue, green, red = color_of(label)
    return f"#{red:02x}{green:02x}{blue:02x}"
