"""Write events as JSON lines."""

import os
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_runtime.rounding import rounded
from emotion_runtime.types import EmotionEvent, Frame


class JsonlSink:
    """Writes one line per event and flushes it, so that all lines but the last one parse even after a kill.

    Args:
        path: The file, which is overwritten, or "-" for standard output.

    Raises:
        EmotionError: The file cannot be written. `write` and `close` raise it too, for example on a full
            disk.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()
        self._is_stdout = path == "-"
        self._file: BinaryIO
        if self._is_stdout:
            self._file = sys.stdout.buffer
            return
        try:
            self._file = Path(path).open("wb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise EmotionError(
                f"JSONL file {path} cannot be written ({error.strerror}); give a file in an existing folder "
                "that you can write to, or - for standard output"
            ) from error

    def write(self, frame: Frame, event: EmotionEvent) -> bool:  # noqa: ARG002 - part of the Protocol
        """Write one line. Return False if the reader of the pipe is gone (`| head`)."""
        try:
            self._file.write(self._encoder.encode(rounded(event)) + b"\n")
            self._file.flush()
        except BrokenPipeError:
            if self._is_stdout:
                # Otherwise the interpreter would flush the closed pipe again at exit, and print an error.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return False
        except OSError as error:
            raise self._write_failed(error) from error
        return True

    def close(self) -> None:
        """Close the file; standard output stays open.

        Raises:
            EmotionError: The last buffered data cannot be written.
        """
        if self._is_stdout:
            return
        try:
            self._file.close()
        except OSError as error:
            raise self._write_failed(error) from error

    def _write_failed(self, error: OSError) -> EmotionError:
        return EmotionError(
            f"JSONL file {self._path}: write failed ({error.strerror}); free disk space and run again"
        )
