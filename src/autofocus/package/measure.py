"""Time and size of a packaged network, measured here.

What is measured is `model.onnx` alone, as the server runs it: one image, one thread, ONNX Runtime
on the CPU. Decoding, preprocessing, postprocessing and HTTP come on top. The time is the thread's
own, which is wall time where nothing else runs: training beside it would be measured too.
"""

import time
from pathlib import Path

import numpy as np

from autofocus.manifest import Measured
from autofocus.scoring.backends.onnx import OnnxBackend

_NUM_WARM_UPS = 2
# Runs that are timed: at least, at most, and the seconds after which these are enough.
_MIN_RUNS, _MAX_RUNS, _ENOUGH_S = 5, 30, 0.5


def measure(path: Path, size: tuple[int, int]) -> Measured:
    """Return what one image costs in an ONNX file, the median of 5 to 30 runs, and its size.

    Args:
        path: The file.
        size: (height, width) of the input, in pixels.
    """
    backend = OnnxBackend(path)
    image = np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32)
    for _ in range(_NUM_WARM_UPS):
        backend.run(image)
    seconds: list[float] = []
    while len(seconds) < _MIN_RUNS or (len(seconds) < _MAX_RUNS and sum(seconds) < _ENOUGH_S):
        started_s = time.thread_time()
        backend.run(image)
        seconds.append(time.thread_time() - started_s)
    return Measured(round(1000 * float(np.median(seconds)), 3), path.stat().st_size)
