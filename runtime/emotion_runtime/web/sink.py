"""The sink that feeds the page: it takes notes, and never waits for a viewer."""

from collections.abc import Callable, Mapping

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import readable
from emotion_runtime.types import AggregateLine, EmotionEvent, Frame, StatusLine
from emotion_runtime.web.server import WebServer
from emotion_runtime.web.state import WebState


class WebSink:
    """Gives frames, events and statuses to the server, and analyses images between two steps of the run.

    What a frame and an event hold here is what may leave the program: blurred, and without what is private.

    Args:
        state: What is shared with the server.
        server: The server; closed with the sink.
        stage_seconds: Returns the time spent in each stage of the run so far.
    """

    def __init__(
        self, state: WebState, server: WebServer, stage_seconds: Callable[[], Mapping[str, float]]
    ) -> None:
        self._state, self._server, self._stage_seconds = state, server, stage_seconds

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Take one frame.

        Raises:
            EmotionError: The server has ended.
        """
        state = self._state
        event = msgspec.structs.replace(event, source=readable(event.source))
        if event.source in state.removed:
            return self._turn()
        single = state.content.single_people
        if state.content.images:
            state.newest.put(frame, event)
        state.traffic.add(event, people=single)
        state.session.add(event, still=frame.still)
        state.metrics.add(event, people=single)
        state.metrics.add_stages(self._stage_seconds(), people=single)
        if single:
            state.events.put(event)
        return self._turn()

    def write_aggregate(self, line: AggregateLine) -> bool:
        """Take counts over several people."""
        line = msgspec.structs.replace(line, source=readable(line.source))
        self._state.session.add_counts(line)
        self._state.events.put(line)
        return True

    def write_status(self, line: StatusLine) -> bool:
        """Take a change of the status of a source."""
        self._state.metrics.add_status(line)
        self._state.events.put(line)
        if line.source not in self._state.removed:
            self._state.traffic.add_status(line)
        return True

    def idle(self) -> bool:
        """Analyse an image while no frame comes.

        Raises:
            EmotionError: The server has ended.
        """
        return self._turn()

    def close(self) -> None:
        """Close the server; safe to call twice."""
        self._state.closing.set()
        self._state.newest.bell.ring()
        self._state.events.bell.ring()
        self._state.analyses.close()
        self._server.close()

    def _turn(self) -> bool:
        self._state.turn()
        self._state.analyses.run_one()
        if self._server.error is not None:
            raise EmotionError(f"--serve: the web server has ended ({self._server.error})")
        return True
