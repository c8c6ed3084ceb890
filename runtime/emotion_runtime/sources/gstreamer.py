"""CSI cameras and any GStreamer pipeline, through GStreamer's Python bindings.

OpenCV is not used for this: the `opencv-python` wheels are built without GStreamer.
"""

import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from threading import Event, Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import ConnectionLost, EmotionError
from emotion_runtime.sources.pipeline_errors import (
    bus_error,
    missing_bindings,
    missing_decoder,
    parse_error,
)
from emotion_runtime.sources.pipelines import complete_pipeline, csi_pipeline
from emotion_runtime.sources.shots import Connect, Shot

_LOOK = 100_000_000  # nanoseconds between two looks at `stop` and at the messages of a pipeline
_IMPORT = Lock()  # two threads that import the bindings at the same time get modules that lack names
_OLDEST = 10.0  # seconds; a time stamp that says more is wrong


@dataclass(frozen=True, slots=True)
class _Bindings:
    """GStreamer's modules for Python."""

    gst: Any
    app: Any
    glib: Any


def connect_gstreamer(uri: str) -> Connect:
    """Return a function that starts a pipeline and yields its images; see `Connect`.

    Each call makes a new pipeline. A file in it is played at its own speed.

    Args:
        uri: csi://N, a camera at the CSI port of a Jetson, with `?size=1280x720&fps=30&flip=rotate-180`; or
            gst: and a pipeline as for `gst-launch-1.0`, without sink or with an `appsink`.

    Raises:
        EmotionError: The URI has a mistake. Mistakes inside a pipeline are found when it starts.
    """
    if uri[:4].lower() != "gst:":
        camera = csi_pipeline(uri)
        return lambda stop: _shots(_bindings(), camera, stop)
    description = uri[4:]
    if not description.strip(" !"):
        raise EmotionError("source gst: has no pipeline; give one, such as gst:videotestsrc")

    def connect(stop: Event) -> Generator[Shot, None, None]:
        bindings = _bindings()
        converter = bindings.gst.ElementFactory.find("nvvidconv") is not None
        yield from _shots(bindings, complete_pipeline(description, has_nvvidconv=converter), stop)

    return connect


def find_gstreamer(element: str) -> tuple[str, bool]:
    """Return GStreamer's name with its version, and whether it has an element.

    Raises:
        ConnectionLost: It is not installed, or not for this Python.
    """
    gst = _bindings().gst
    return gst.version_string(), gst.ElementFactory.find(element) is not None


def _bindings() -> _Bindings:
    """Import and start GStreamer.

    Raises:
        ConnectionLost: It is not installed, or not for this Python.
    """
    with _IMPORT:
        try:
            import gi  # noqa: PLC0415 - a package of the system

            gi.require_version("Gst", "1.0")
            gi.require_version("GstApp", "1.0")
            from gi.repository import GLib, Gst, GstApp  # noqa: PLC0415
        except (ImportError, ValueError) as error:
            raise missing_bindings() from error
        Gst.init(None)
    return _Bindings(Gst, GstApp, GLib)


def _shots(bindings: _Bindings, description: str, stop: Event) -> Generator[Shot, None, None]:
    """Run a pipeline and yield its images until it ends or `stop` is set.

    Raises:
        ConnectionLost: It does not parse, cannot start, or fails.
    """
    gst = bindings.gst
    pipeline, sink = _parse(bindings, description)
    bus = pipeline.get_bus()
    try:
        # A live source has nothing to show before it plays. A file would run as fast as it can be decoded.
        live = pipeline.set_state(gst.State.PAUSED) == gst.StateChangeReturn.NO_PREROLL
        if not live:
            sink.set_property("sync", True)
        pipeline.set_state(gst.State.PLAYING)
        while not stop.is_set():
            sample = sink.try_pull_sample(_LOOK)
            if sample is not None:
                now = time.monotonic()
                age = _age(gst, pipeline, sample)
                wall = datetime.now(timezone.utc) - timedelta(seconds=age)
                yield Shot(_image(sample), now - age, wall)
            if _ended(gst, bus):  # also takes the messages, which would pile up
                return
    finally:
        pipeline.set_state(gst.State.NULL)


def _parse(bindings: _Bindings, description: str) -> tuple[Any, Any]:
    """Return a pipeline and its appsink.

    Raises:
        ConnectionLost: It does not parse.
    """
    gst = bindings.gst
    try:
        pipeline = gst.parse_launch(description)
    except bindings.glib.Error as error:
        raise parse_error(error.message) from None  # the message may hold a password
    sink = _sink(bindings, pipeline) if isinstance(pipeline, gst.Pipeline) else None
    if sink is None:
        raise ConnectionLost("the pipeline has no source; begin it with one, such as v4l2src", "format")
    sink.set_property("max-buffers", 1)
    sink.set_property("drop", True)
    if sink.get_property("caps") is None:
        sink.set_property("caps", gst.Caps.from_string("video/x-raw,format=BGR"))
    return pipeline, sink


def _sink(bindings: _Bindings, pipeline: Any) -> Any:
    """Return the first appsink of a pipeline, or None."""
    sinks = pipeline.iterate_sinks()
    while True:
        result, element = sinks.next()
        if result != bindings.gst.IteratorResult.OK or isinstance(element, bindings.app.AppSink):
            return element


def _ended(gst: Any, bus: Any) -> bool:
    """Take the messages of a pipeline, and return whether it has come to its end.

    Raises:
        ConnectionLost: It failed.
    """
    errors: list[ConnectionLost] = []
    ended = False
    while (message := bus.pop()) is not None:
        if message.type == gst.MessageType.EOS:
            ended = True
        elif message.type == gst.MessageType.ELEMENT:
            structure = message.get_structure()
            if structure is not None and structure.get_name() == "missing-plugin":
                errors.insert(0, missing_decoder(structure.get_string("name") or "a decoder"))
        elif message.type == gst.MessageType.ERROR:
            error, details = message.parse_error()
            factory = message.src.get_factory() if isinstance(message.src, gst.Element) else None
            element = factory.get_name() if factory is not None else "pipeline"
            errors.append(bus_error(error.domain, error.code, error.message, details or "", element))
    if errors:  # the first is the cause of the others
        raise errors[0]
    return ended


def _age(gst: Any, pipeline: Any, sample: Any) -> float:
    """Return how many seconds ago an image was captured, by the pipeline's clock; 0 if that is not known."""
    clock = pipeline.get_clock()
    stamp = sample.get_buffer().pts
    if clock is None or stamp == gst.CLOCK_TIME_NONE:
        return 0.0
    running = sample.get_segment().to_running_time(gst.Format.TIME, stamp)
    if running == gst.CLOCK_TIME_NONE:
        return 0.0
    age = (clock.get_time() - pipeline.get_base_time() - running) / 1e9
    return float(age) if 0.0 <= age <= _OLDEST else 0.0


def _image(sample: Any) -> NDArray[np.uint8]:
    """Return the image of a sample, (H, W, 3) uint8 BGR.

    Raises:
        ConnectionLost: It is of another format.
    """
    structure = sample.get_caps().get_structure(0)
    kind, width, height = (structure.get_value(name) for name in ("format", "width", "height"))
    buffer = sample.get_buffer()
    if kind != "BGR":
        raise ConnectionLost(
            f"the appsink of the pipeline delivers {kind or structure.get_name()}; expected BGR: put "
            "`videoconvert ! video/x-raw,format=BGR` before it",
            "format",
        )
    data = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8)
    # Rows are padded, as a rule to a multiple of 4 bytes.
    rows = data[: len(data) // height * height].reshape(height, -1)
    return rows[:, : width * 3].reshape(height, width, 3).copy()
