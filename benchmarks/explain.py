"""Explanations against PAIR saliency and captum: CPU time, interleaved, in one process.

    python benchmarks/explain.py [--repetitions 3] [--networks mobilenetv3_large_100 resnet18]

Needs the bench extra: captum and saliency. One thread; the smallest time of all repetitions. Every
contender explains the same photo with the same random weights; XRAI without gradients gets the
same attribution, and the heat maps are compared bit by bit.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import captum.attr
import cv2
import numpy as np
import saliency.core.base
import saliency.core.xrai as reference
import torch
from skimage import data

from autofocus.explain.explainers import EXPLAINERS
from autofocus.explain.frozen import freeze
from autofocus.explain.parameters import Parameters
from autofocus.explain.segmentation.masks import xrai_masks
from autofocus.explain.segmentation.regions import rank_regions
from autofocus.explain.xrai import warm_up
from autofocus.models.catalog import resolve
from autofocus.models.timm_classifiers import Classifier, build

STEPS = 50
TARGET = 3
SIZE = 224

Contenders = dict[str, Callable[[], Any]]


def cpu_ms(contenders: Contenders, repetitions: int) -> dict[str, float]:
    """Return the least CPU time of each, run in turns."""
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(repetitions):
        for name, call in contenders.items():
            started = time.process_time()
            call()
            best[name] = min(best[name], 1e3 * (time.process_time() - started))
    return best


def show(title: str, times: dict[str, float], rows: list[tuple[str, str, float]]) -> None:
    """Print each (ours, theirs, target) with its ratio."""
    for ours, theirs, target in rows:
        ratio = times[theirs] / times[ours]
        verdict = "ok" if ratio >= target else "BELOW"
        print(
            f"{title:24} {ours:18} {times[ours]:8.0f} ms   {theirs:24} {times[theirs]:8.0f} ms   "
            f"1/{ratio:<5.2f} target 1/{target:<4g} {verdict}",
            flush=True,
        )


def photo(size: int) -> np.ndarray:
    pixels = cv2.resize(data.coffee(), (size, size), interpolation=cv2.INTER_AREA)
    return pixels.astype(np.float32) / 127.5 - 1


def without_gradients(repetitions: int) -> None:
    image = photo(SIZE)
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(SIZE, SIZE)).astype(np.float32)
    smooth = cv2.GaussianBlur(dense, (0, 0), 6)
    for kind, attribution in {"dense": dense, "smooth": smooth}.items():
        results: dict[str, np.ndarray] = {}

        def theirs(
            algorithm: str, attribution: np.ndarray = attribution, found: dict[str, Any] = results
        ) -> None:
            found[algorithm] = reference.XRAI().GetMask(
                image,
                None,
                base_attribution=np.repeat(attribution[:, :, None], 3, axis=2),
                extra_parameters=reference.XRAIParameters(algorithm=algorithm),
            )

        def ours(
            algorithm: str, attribution: np.ndarray = attribution, found: dict[str, Any] = results
        ) -> None:
            masks = xrai_masks(image)
            found[f"our {algorithm}"] = rank_regions(attribution, masks, fast=algorithm == "fast")

        contenders: Contenders = {}
        for name in ("fast", "full"):
            contenders[f"our {name}"] = partial(ours, name)
            contenders[f"saliency {name}"] = partial(theirs, name)
        times = cpu_ms(contenders, repetitions)
        for name in ("fast", "full"):
            equal = np.array_equal(results[name], results[f"our {name}"])
            show(f"XRAI regions, {kind}", times, [(f"our {name}", f"saliency {name}", 15)])
            print(f"{'':24} heat maps bit-equal: {equal}")


def saliency_xrai(network: Classifier, image: np.ndarray, algorithm: str, batch: int) -> None:
    def gradients(points: np.ndarray, call_model_args: Any, expected_keys: Any) -> dict[str, Any]:
        images = torch.from_numpy(points).permute(0, 3, 1, 2).float().requires_grad_()
        scores = network(images).softmax(dim=1)[:, TARGET]
        (found,) = torch.autograd.grad(scores.sum(), images)
        return {saliency.core.base.INPUT_OUTPUT_GRADIENTS: found.permute(0, 2, 3, 1).numpy()}

    reference.XRAI().GetMask(
        image,
        gradients,
        batch_size=batch,
        extra_parameters=reference.XRAIParameters(steps=STEPS, algorithm=algorithm),
    )


def end_to_end(name: str, repetitions: int) -> None:
    torch.manual_seed(0)
    network = build(resolve(name), 10, input_size=SIZE)
    frozen = freeze(network)
    image = photo(SIZE)
    images = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()

    def ours(algorithm: str, fast: bool = True) -> Callable[[], Any]:
        parameters = Parameters(algorithm, n_steps=STEPS, xrai_fast=fast)
        return lambda: EXPLAINERS[algorithm].attribute(frozen, images, [TARGET], parameters)

    xrai = cpu_ms(
        {
            "our fast": ours("xrai"),
            "saliency fast, batch 5": lambda: saliency_xrai(network, image, "fast", 5),
            "our full": ours("xrai", fast=False),
            "saliency full, batch 5": lambda: saliency_xrai(network, image, "full", 5),
        },
        repetitions,
    )
    mobile = name.startswith("mobilenet")
    show(
        f"XRAI, {name}"[:24],
        xrai,
        [
            ("our fast", "saliency fast, batch 5", 1.5 if mobile else 1.3),
            ("our full", "saliency full, batch 5", 3 if mobile else 1.6),
        ],
    )
    integrated = captum.attr.IntegratedGradients(network)
    guided = captum.attr.GuidedBackprop(network)
    times = cpu_ms(
        {
            "our IG": ours("integrated_gradients"),
            "captum IG, batch 5": lambda: integrated.attribute(
                images,
                target=TARGET,
                n_steps=STEPS,
                method="riemann_middle",
                internal_batch_size=5,
            ),
        },
        repetitions,
    )
    show(f"IG, {name}"[:24], times, [("our IG", "captum IG, batch 5", 1.2)])
    times = cpu_ms(
        {
            "our guided": ours("guided_backprop"),
            "captum guided": lambda: guided.attribute(images, target=TARGET),
        },
        10 * repetitions,
    )
    show(f"Guided, {name}"[:24], times, [("our guided", "captum guided", 1.2)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=["mobilenetv3_large_100", "resnet18"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warm_up()
    without_gradients(options.repetitions)
    for name in options.networks:
        end_to_end(name, options.repetitions)


if __name__ == "__main__":
    main()
