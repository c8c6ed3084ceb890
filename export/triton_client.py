"""Run a source with the encoders on a Triton server, which serves a repository of emotion-export triton.

    pip install "tritonclient[http]"
    python export/triton_client.py --bundle nano --source demo --url localhost:8000 --max-frames 50

Detector, tracker and heads run here; only crops, patch weights and embeddings are sent. The output is one
JSON line per frame, as `emotion-runtime --jsonl -` writes it. More people than the server takes at once are
sent in several requests. A server that goes away is tried again for a while, so that it can be restarted.
"""

import argparse
import sys
import time
from collections.abc import Callable
from http.client import HTTPException
from itertools import islice
from typing import Any

import numpy as np

from emotion_runtime.backends.base import Feeds, Outputs, count_persons
from emotion_runtime.backends.buckets import Limits, split
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.detectors import load_detector
from emotion_runtime.encoder import FrameEncoder, TemporalEncoder
from emotion_runtime.errors import EmotionError
from emotion_runtime.heads import load_affect_head, load_head
from emotion_runtime.models import Models
from emotion_runtime.names import GraphName
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.ring import plan_clips
from emotion_runtime.sinks.jsonl import JsonlSink
from emotion_runtime.sources import open_source
from emotion_runtime.timing import Timing

REQUEST_SECONDS = 10.0  # after which a request counts as failed
PAUSE_SECONDS = 0.5  # between two attempts to reach a server that is away
IMAGES, INDEX = "images", "frame_index"


class TritonBackend:
    """A model on a server; see `emotion_runtime.backends.base.Backend`.

    Args:
        http: The module `tritonclient.http`.
        client: An `InferenceServerClient` of it.
        model: Name of the model.
        patience: For how many seconds a server that goes away is tried again.

    Raises:
        EmotionError: The server cannot be reached, or does not have the model.
    """

    name = "triton"

    def __init__(self, http: Any, client: Any, model: str, *, patience: float = 0.0) -> None:
        self._http, self._client, self._model = http, client, model
        self._patience = 0.0  # a wrong address is an error at once
        config = self._ask(lambda: client.get_model_config(model))
        self._types = {tensor["name"]: tensor["data_type"] for tensor in config["input"]}
        self._limits = _limits(config)
        self._patience = patience
        self.description = f"{model} on a Triton server"

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs by name, (P, ...), from as many requests as the server's limits ask for."""
        index = feeds.get(INDEX, np.zeros(count_persons(feeds), np.int64))
        parts = [self._run_part(feeds, part) for part in split(index, self._limits)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Close nothing: models share the connection, which ends with the program."""

    def _run_part(self, feeds: Feeds, part: slice) -> Outputs:
        rows = {name: value[part] for name, value in feeds.items() if name != IMAGES}
        if IMAGES in feeds and INDEX in self._types:
            # Only the images that show a person of this part, renumbered.
            kept, rows[INDEX] = np.unique(rows[INDEX], return_inverse=True)
            rows[IMAGES] = feeds[IMAGES][kept]
        elif IMAGES in feeds:
            rows[IMAGES] = feeds[IMAGES][rows[INDEX]]  # the served graph takes one image per person
        inputs = []
        for name, datatype in self._types.items():
            value = np.ascontiguousarray(rows[name])
            inputs.append(self._http.InferInput(name, list(value.shape), datatype.removeprefix("TYPE_")))
            inputs[-1].set_data_from_numpy(value)
        result = self._ask(lambda: self._client.infer(self._model, inputs))
        return {
            output["name"]: result.as_numpy(output["name"]) for output in result.get_response()["outputs"]
        }

    def _ask(self, request: Callable[[], Any]) -> Any:
        from tritonclient.utils import InferenceServerException  # noqa: PLC0415 - an extra, see `connect`

        deadline, away = time.monotonic() + self._patience, False
        while True:
            try:
                answer = request()
                break
            except (InferenceServerException, OSError, HTTPException) as error:
                reason = " ".join(str(error).split())
                # The server itself refuses: another attempt would end in the same way.
                if isinstance(error, InferenceServerException) or time.monotonic() >= deadline:
                    raise EmotionError(
                        f"Triton cannot run {self._model} ({reason}): check the log of the server, and that "
                        "--url and --bundle match it"
                    ) from error
                if not away:
                    _say(f"the server is away ({reason}); trying again for {self._patience:g} s")
                away = True
                time.sleep(PAUSE_SECONDS)
        if away:
            _say("the server is back")
        return answer


def _limits(config: dict[str, Any]) -> Limits:
    """Return the largest request of a model, from its configuration on the server.

    Engines that Triton does not batch state their limits as parameters, see `emotion_export.triton`.
    """
    if config["max_batch_size"]:
        # One image per person.
        return Limits(config["max_batch_size"], config["max_batch_size"])
    stated = {name: int(value["string_value"]) for name, value in config.get("parameters", {}).items()}
    usual = Limits()
    return Limits(stated.get("max_persons", usual.persons), stated.get("max_images", usual.images))


def _say(text: str) -> None:
    print(f"triton_client: {text}", file=sys.stderr)


def connect(url: str, bundle: Bundle, *, patience: float = 0.0) -> Callable[[GraphName], TritonBackend]:
    """Return a function that opens a graph of a bundle on a server.

    Args:
        url: Host and HTTP port of the server.
        bundle: The bundle from which the server's repository was made.
        patience: For how many seconds a server that goes away is tried again.

    Raises:
        EmotionError: tritonclient is not installed.
    """
    try:
        from tritonclient import http  # noqa: PLC0415 - an extra that only this script needs
    except ModuleNotFoundError as error:
        raise EmotionError('tritonclient is not installed: pip install "tritonclient[http]"') from error
    client = http.InferenceServerClient(url=url, network_timeout=REQUEST_SECONDS)
    return lambda graph: TritonBackend(http, client, f"{bundle.manifest.name}_{graph}", patience=patience)


def follow(args: argparse.Namespace) -> None:
    """Write one event per frame until the source ends."""
    bundle = load_bundle(args.bundle)
    manifest, timing = bundle.manifest, Timing()
    backend = connect(args.url, bundle, patience=args.patience)
    models = Models(
        load_detector("face"),
        FrameEncoder(backend("frame_encoder"), manifest.preprocess),
        TemporalEncoder(backend("temporal_encoder")),
        load_head(bundle),
        load_affect_head(bundle),
        swap=manifest.swap,
    )
    clips = plan_clips(manifest.clip_frames, manifest.clip_seconds, window=timing.window, every=timing.every)
    pipeline = Pipeline(models, clips, timing)
    sink = JsonlSink(args.jsonl)
    with open_source(args.source) as source:
        for frame in islice(source, args.max_frames):
            if not sink.write(frame, pipeline.step(frame)):
                break
    sink.close()


def main(argv: list[str] | None = None) -> int:
    """Run the client and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundle", default="nano", help="bundle from which the repository was made (default: %(default)s)"
    )
    parser.add_argument(
        "--source",
        default="demo",
        help="video, camera or demo, as for emotion-runtime (default: %(default)s)",
    )
    parser.add_argument(
        "--url", default="localhost:8000", help="address of the server's HTTP port (default: %(default)s)"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long a server that goes away is tried again (default: %(default)g)",
    )
    parser.add_argument("--max-frames", type=int, help="stop after this many frames")
    parser.add_argument("--jsonl", default="-", help="file for the events; - for standard output")
    try:
        follow(parser.parse_args(argv))
    except EmotionError as error:
        print(f"triton_client: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
