"""Sinks of events: the function that opens those of a run. The interface is `sinks.base.Sink`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from emotion_runtime.errors import EmotionError, about
from emotion_runtime.sinks.base import Outputs, Sink
from emotion_runtime.sinks.jsonl_folder import JsonlFolderSink, is_jsonl_folder
from emotion_runtime.sinks.outputs import is_folder

if TYPE_CHECKING:
    from emotion_runtime.sinks.draw import Render


def open_sinks(outputs: Outputs) -> Iterator[Sink]:
    """Open sinks one after the other, so that a caller can close the first ones if a later one fails.

    Raises:
        EmotionError: A file cannot be written, or no window can be shown.
    """
    # Each sink is imported when it is opened, to keep the start-up time short.
    if outputs.jsonl is not None:
        with about("jsonl"):
            lines = _open_jsonl(outputs, outputs.jsonl)
        if outputs.on_change:
            from emotion_runtime.sinks.changes import ChangesSink  # noqa: PLC0415

            lines = ChangesSink(lines)
        yield lines
    if outputs.csv is not None:
        from emotion_runtime.sinks.csv_file import CsvSink  # noqa: PLC0415

        with about("csv"):
            sink: Sink = CsvSink(outputs.csv, outputs)
        yield sink
    if outputs.report is not None:
        from emotion_runtime.sinks.report.sink import ReportSink  # noqa: PLC0415

        with about("report"):
            sink = ReportSink(outputs.report, run=outputs.run, keep=outputs.append)
        yield sink
    if outputs.embeddings is not None and outputs.features is not None:
        from emotion_runtime.sinks.embeddings import EmbeddingsSink  # noqa: PLC0415

        with about("embeddings"):
            sink = EmbeddingsSink(outputs.embeddings, outputs.features, run=outputs.run, keep=outputs.append)
        yield sink
    if outputs.mqtt is not None:
        from emotion_runtime.sinks.mqtt import MqttSink  # noqa: PLC0415

        with about("mqtt"):
            sink = MqttSink(outputs.mqtt)
        yield sink
    if outputs.record is None and not outputs.show:
        return
    from emotion_runtime.sinks.draw import Annotator  # noqa: PLC0415

    annotate = Annotator()  # shared, so that each frame is drawn once
    if outputs.record is not None:
        with about("record"):
            sink = _open_recording(outputs, outputs.record, annotate)
        yield sink
    if outputs.show:
        from emotion_runtime.sinks.window import WindowSink  # noqa: PLC0415

        with about("show"):
            sink = WindowSink(annotate, windows=outputs.windows)
        yield sink


def _open_jsonl(outputs: Outputs, path: str) -> Sink:
    if is_jsonl_folder(path):
        if outputs.rotation is not None:
            raise EmotionError(f"--rotate needs a file, and --jsonl {path} is a folder: omit --rotate")
        return JsonlFolderSink(path, run=outputs.run, wall_clock=outputs.wall_clock, frames=outputs.frames)
    from emotion_runtime.sinks.jsonl import JsonlSink  # noqa: PLC0415

    return JsonlSink(
        path,
        append=outputs.append,
        run=outputs.run,
        wall_clock=outputs.wall_clock,
        frames=outputs.frames,
        rotation=None if path == "-" else outputs.rotation,
        stopped=outputs.stopped,
    )


def _open_recording(outputs: Outputs, path: str, annotate: "Render") -> Sink:
    if is_folder(path):
        from emotion_runtime.sinks.folder import FolderSink  # noqa: PLC0415

        return FolderSink(
            path,
            annotate,
            segment=outputs.record_segment,
            append=outputs.append,
            sound=outputs.sound,
            sources=outputs.sources,
        )
    from emotion_runtime.sinks.video import VideoSink  # noqa: PLC0415

    return VideoSink(
        path,
        annotate,
        segment=outputs.record_segment,
        append=outputs.append,
        sound=outputs.sound,
        sources=outputs.sources,
    )
