"""Class-wise suppression of 10,000 candidates beside torchvision's, on one core.

    python benchmarks/nms.py

Both take turns; the least CPU time of each counts. The detectors' postprocessing asks for the best
100 (`box_detections_per_image`); torchvision always works out all. Target: below 10 ms.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms

from autofocus.structures.boxes import nms

CAPS = (100, 300, None)


def scattered(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
    centres, sides = rng.random((num, 2)) * 1000, rng.uniform(10, 100, (num, 2))
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)


def clustered(num_objects: int) -> Callable[[np.random.Generator, int], NDArray[np.float32]]:
    def make(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
        objects = scattered(rng, num_objects)[rng.integers(num_objects, size=num)]
        return objects + rng.normal(size=(num, 4), scale=3).astype(np.float32)

    return make


def spread(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
    corners = np.sort(rng.random((num, 2, 2)) * 1000, axis=1)
    return corners.reshape(num, 4).astype(np.float32)


LAYOUTS = {
    "around 50 objects": clustered(50),
    "around 500 objects": clustered(500),
    "small, anywhere": scattered,
    "random corners": spread,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    columns = "".join(f"{f'best {cap}' if cap else 'all':>10}" for cap in CAPS)
    print(f"{'CPU ms':20}{'classes':>8}{'kept':>7}{columns}{'torchvision':>13}")
    for name, make in LAYOUTS.items():
        for num_classes in (1, 20, 80):
            rng = np.random.default_rng(0)
            xyxy, scores = make(rng, args.num), rng.random(args.num).astype(np.float32)
            classes = rng.integers(num_classes, size=args.num)
            print(f"{name:20}{num_classes:>8}", compare(xyxy, scores, classes, args.rounds))


def compare(
    xyxy: NDArray[np.float32],
    scores: NDArray[np.float32],
    classes: NDArray[np.int64],
    rounds: int,
) -> str:
    tensors = [torch.from_numpy(array) for array in (xyxy, scores, classes)]
    best = [float("inf")] * (len(CAPS) + 1)
    for _ in range(rounds):
        for i, cap in enumerate(CAPS):
            start = time.process_time()
            kept = nms(xyxy, scores, classes, 0.5, cap)
            best[i] = min(best[i], time.process_time() - start)
        start = time.process_time()
        theirs = batched_nms(*tensors, 0.5)
        best[-1] = min(best[-1], time.process_time() - start)
        assert sorted(kept) == sorted(theirs.tolist())
    times = "".join(f"{1e3 * seconds:>10.1f}" for seconds in best[:-1])
    return f"{len(kept):>6}{times}{1e3 * best[-1]:>13.1f}"


if __name__ == "__main__":
    main()
