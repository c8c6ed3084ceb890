"""What the detectors with a network share: any way to run it, and several frames in one run."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Backend
from emotion_runtime.backends.onnx import CPU, count_threads, default_threads, onnx_version, open_session
from emotion_runtime.detectors.graph import INPUT, DetectorGraph, Size
from emotion_runtime.errors import EmotionError
from emotion_runtime.tracker import START_SCORE
from emotion_runtime.types import Detections

_MOST_SIZES = 8

Outputs = Sequence[NDArray[np.float32]]  # of the network, in its order


class Placement:
    """Where an image is in the input of a network.

    Args:
        size: (height, width) of the input.
        corner: x, y of the image's corner in the input.
        scale: Network pixels per image pixel of x and y, which differ a little: sides are whole pixels.
    """

    __slots__ = ("corner", "scale", "size")

    def __init__(self, size: tuple[int, ...], corner: tuple[int, int], scale: tuple[float, float]) -> None:
        self.size: Size = (size[0], size[1])
        self.corner = np.array(corner, np.float32)  # (2,)
        self.scale = np.array(scale, np.float32)  # (2,)


class Network(Protocol):
    """A detector's graph, ready to run."""

    @property
    def batches(self) -> bool:
        """Whether several frames in one run take less time than one by one."""
        ...

    @property
    def description(self) -> str:
        """Name and version of what ran the graph last, and the device, for people."""
        ...

    def run(self, frames: NDArray[np.uint8]) -> Outputs:
        """Run the graph on frames (N, height, width, 3) uint8 BGR of any size."""
        ...

    def close(self) -> None:
        """Free the memory of a device. A second call does nothing."""
        ...


class CpuNetwork:
    """A detector's graph in ONNX Runtime on the CPU. See `Network`.

    On a CPU, a batch takes as long as its frames one by one, or up to a fifth longer
    (`benchmarks/results/pace/`).

    Args:
        graph: The graph.
        fix: What the user can do if it cannot be loaded, for the error message.
        threads: Number of threads. 0: as many as the encoders have.

    Raises:
        EmotionError: ONNX Runtime is not installed or cannot load the graph.
    """

    batches = False

    def __init__(self, graph: DetectorGraph, *, fix: str, threads: int = 0) -> None:
        self._session: Any = open_session(graph.content, name=graph.title, fix=fix, threads=threads)
        threads = threads or default_threads()
        self.description = f"ONNX Runtime {onnx_version()}, {CPU}, {count_threads(threads)}"

    def run(self, frames: NDArray[np.uint8]) -> Outputs:
        """Return the outputs of the network."""
        outputs: Outputs = self._session.run(None, {INPUT: frames})
        return outputs

    def close(self) -> None:
        """Do nothing: the session is freed together with this object, and can still run."""


class SizedNetwork:
    """A detector's graph with a backend for each size of frames, opened when the size first comes.

    Engines of TensorRT, captured CUDA graphs and OpenVINO are made for one size. A camera has one; the
    videos of a run may have several, so only the latest few are kept.

    Args:
        graph: The graph.
        open_at: Opens a backend for a size.
        batches: See `Network`.
    """

    def __init__(self, graph: DetectorGraph, open_at: Callable[[Size], Backend], *, batches: bool) -> None:
        self._outputs = graph.outputs
        self._open_at = open_at
        self._opened: dict[Size, Backend] = {}  # the latest size last
        self.batches = batches

    @property
    def description(self) -> str:
        """The description of the backend that ran last, or that none is open."""
        return next((each.description for each in reversed(self._opened.values())), "not opened yet")

    def run(self, frames: NDArray[np.uint8]) -> Outputs:
        """Return the outputs of the network."""
        size: Size = (frames.shape[1], frames.shape[2])
        backend = self._opened.pop(size, None) or self._open_at(size)
        self._opened[size] = backend
        if len(self._opened) > _MOST_SIZES:
            self._opened.pop(next(iter(self._opened))).close()
        found = backend.run({INPUT: frames})
        return [found[name] for name in self._outputs]

    def close(self) -> None:
        """Close all backends."""
        while self._opened:
            self._opened.popitem()[1].close()


class NetworkDetector(ABC):
    """A detector whose network can be run in any way. See `emotion_runtime.detectors.Detector`.

    Args:
        graph: The network.
        reference: The network in ONNX Runtime on the CPU.
        score: Minimum score of a detection. None: `least`.
        least: The default of that.

    Attributes:
        graph: The network.
        reference: The network in ONNX Runtime on the CPU, with which others are compared.
        network: What runs the network: the reference, until something else is put in its place.
        score: Minimum score of a detection.
        start_score: From which score on a detection may be somebody new; weaker ones only continue a track.
            Lower than usual if the user asks for weaker detections.
    """

    def __init__(self, graph: DetectorGraph, reference: Network, score: float | None, least: float) -> None:
        self.graph = graph
        self.reference = self.network = reference
        self.score = least if score is None else score
        self.start_score = START_SCORE if score is None else min(START_SCORE, score)

    @property
    def batches(self) -> bool:
        """Whether `find_all` is faster for several images than for one at a time."""
        return self.network.batches and not self.graph.one_by_one

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """Return the detections in an image (H, W, 3) uint8 BGR.

        Raises:
            EmotionError: The network does not run, or returns scores or boxes that are not numbers.
        """
        return self.find_all([image_bgr])[0]

    def find_all(self, images_bgr: Sequence[NDArray[np.uint8]], *, photos: bool = False) -> list[Detections]:
        """Return the detections in each image (H, W, 3) uint8 BGR; images may differ in size.

        Args:
            images_bgr: The images.
            photos: The images are photos, each of which may have another size. To open a backend for a size
                takes longer than the reference takes for many photos: minutes for an engine of TensorRT.

        Raises:
            EmotionError: As for one image.
        """
        network = self.reference if photos and isinstance(self.network, SizedNetwork) else self.network
        prepared = [self.prepare(image) for image in images_bgr]
        outputs: list[Outputs] = [()] * len(prepared)
        for rows in self._runs([pixels.shape[:2] for pixels, _ in prepared]):
            pixels = [prepared[row][0] for row in rows]
            found = network.run(pixels[0][None] if len(rows) == 1 else np.stack(pixels))
            for place, row in enumerate(rows):
                outputs[row] = [np.asarray(output[place]) for output in found]
        return [
            self.decode(each, placement, image.shape[:2])
            for each, (_, placement), image in zip(outputs, prepared, images_bgr, strict=True)
        ]

    def _runs(self, sizes: Sequence[tuple[int, ...]]) -> list[list[int]]:
        """Return which images go together: those of one size, if that is faster."""
        if not self.batches:
            return [[row] for row in range(len(sizes))]
        by_size: dict[tuple[int, ...], list[int]] = {}
        for row, size in enumerate(sizes):
            by_size.setdefault(size, []).append(row)
        return list(by_size.values())

    @abstractmethod
    def prepare(self, image_bgr: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Placement]:
        """Return the network's input for an image, (h, w, 3) uint8 BGR, and where the image is in it."""

    @abstractmethod
    def decode(self, outputs: Outputs, placement: Placement, size: Size) -> Detections:
        """Return the detections.

        Args:
            outputs: The outputs of the network for one image, without the batch axis.
            placement: As from `prepare`.
            size: (height, width) of the image.

        Raises:
            EmotionError: The outputs are not those of a detector.
        """

    def comparable(self, output: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what of an output (N, ...) has the same order in every precision; here all of it."""
        return output

    def check_numbers(self, values: NDArray[np.float32], what: str = "scores") -> None:
        """Check that values are finite: others pass no comparison, so nobody would be found.

        Args:
            values: The values.
            what: What they are, for the error message.

        Raises:
            EmotionError: One is not.
        """
        if not np.isfinite(values).all():
            expected = "0 to 1" if what == "scores" else "finite numbers"
            raise EmotionError(
                f"{self.graph.title}: its network returned {what} that are not numbers, expected {expected}; "
                "check this machine with emotion-runtime --doctor, or use --backend cpu"
            )
