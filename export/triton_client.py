"""Run a source with the encoders on a Triton server, which serves a repository of emotion-export triton.

    pip install "tritonclient[http]"
    python export/triton_client.py --bundle nano --source demo --url localhost:8000 --max-frames 50

Detector, tracker and heads run here; only crops, patch weights and embeddings are sent. The output is one
JSON line per frame, as `emotion-runtime --jsonl -` writes it. UNVERIFIED until run against a server.
"""

import argparse
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.detectors import load_detector
from emotion_runtime.encoder import FrameEncoder, TemporalEncoder
from emotion_runtime.errors import EmotionError
from emotion_runtime.heads import load_affect_head, load_head
from emotion_runtime.manifest import GraphName
from emotion_runtime.models import Models
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.ring import plan_clips
from emotion_runtime.sinks.jsonl import JsonlSink
from emotion_runtime.sources import open_source
from emotion_runtime.timing import Timing


class TritonBackend:
    """A model on a server; see `emotion_runtime.backends.Backend`.

    Args:
        http: The module `tritonclient.http`.
        client: An `InferenceServerClient` of it.
        model: Name of the model.

    Raises:
        EmotionError: The server cannot be reached, or does not have the model.
    """

    def __init__(self, http: Any, client: Any, model: str) -> None:
        self._http, self._client, self._model = http, client, model
        metadata = self._ask(lambda: client.get_model_metadata(model))
        self._types = {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]}
        self.description = f"{model} on a Triton server"

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs by name."""
        if "frame_index" in feeds and "frame_index" not in self._types:
            # The served graph takes one image per person.
            feeds = {**feeds, "images": feeds["images"][feeds["frame_index"]]}
        inputs = []
        for name, datatype in self._types.items():
            value = np.ascontiguousarray(feeds[name])
            inputs.append(self._http.InferInput(name, list(value.shape), datatype))
            inputs[-1].set_data_from_numpy(value)
        result = self._ask(lambda: self._client.infer(self._model, inputs))
        return {
            output["name"]: result.as_numpy(output["name"]) for output in result.get_response()["outputs"]
        }

    def _ask(self, request: Callable[[], Any]) -> Any:
        from tritonclient.utils import InferenceServerException  # noqa: PLC0415 - an extra, see `connect`

        try:
            return request()
        except (InferenceServerException, OSError) as error:
            raise EmotionError(
                f"Triton cannot run {self._model} ({' '.join(str(error).split())}): check the log of the "
                "server, and that --url and --bundle match it"
            ) from error


def connect(url: str, bundle: Bundle) -> Callable[[GraphName], TritonBackend]:
    """Return a function that opens a graph of a bundle on a server.

    Raises:
        EmotionError: tritonclient is not installed.
    """
    try:
        from tritonclient import http  # noqa: PLC0415 - an extra that only this script needs
    except ModuleNotFoundError as error:
        raise EmotionError('tritonclient is not installed: pip install "tritonclient[http]"') from error
    client = http.InferenceServerClient(url=url)
    return lambda graph: TritonBackend(http, client, f"{bundle.manifest.name}_{graph}")


def follow(args: argparse.Namespace) -> None:
    """Write one event per frame until the source ends."""
    bundle = load_bundle(args.bundle)
    manifest, timing = bundle.manifest, Timing()
    backend = connect(args.url, bundle)
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
