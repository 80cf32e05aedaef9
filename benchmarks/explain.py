"""Explanations against PAIR saliency and captum: CPU time, in turns, on one photo.

    python benchmarks/explain.py [--repetitions 3] [--networks mobilenetv3_large_100 resnet18]

Needs captum, saliency and scikit-image. One thread; the least CPU time of all repetitions. Ours and
theirs live in a process each, since ours sets the allocator (`runtime.keep_big_blocks`) as every
command does, and theirs is what their users get. Weights are the same random ones. XRAI without
gradients gets the same attribution in one process, and the heat maps are compared bit by bit.
"""

import argparse
import multiprocessing
import time
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import captum.attr
import cv2
import numpy as np
import saliency.core.base
import saliency.core.xrai as reference
import torch
from skimage import data

from autofocus.explain.algorithms import attribution_method
from autofocus.explain.frozen import freeze
from autofocus.explain.parameters import Parameters
from autofocus.explain.segmentation.masks import xrai_masks
from autofocus.explain.segmentation.regions import rank_regions
from autofocus.explain.xrai import warm_up
from autofocus.models.catalog import resolve
from autofocus.models.network import Classifier
from autofocus.models.timm.classifiers import build_classifier
from autofocus.runtime import keep_big_blocks

STEPS = 50
TARGET = 3
SIZE = 224

Contenders = dict[str, Callable[[], Any]]


def cpu_ms(contenders: Contenders, repetitions: int) -> dict[str, float]:
    """Run the methods in turns; return the least CPU time of each."""
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
            f"{title:44} {ours:10} {times[ours]:8.0f} ms   {theirs:24} {times[theirs]:8.0f} ms   "
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

        def reference_map(
            algorithm: str, attribution: np.ndarray = attribution, found: dict[str, Any] = results
        ) -> None:
            found[algorithm] = reference.XRAI().GetMask(
                image,
                None,
                base_attribution=np.repeat(attribution[:, :, None], 3, axis=2),
                extra_parameters=reference.XRAIParameters(algorithm=algorithm),
            )

        def our_map(
            algorithm: str, attribution: np.ndarray = attribution, found: dict[str, Any] = results
        ) -> None:
            masks = xrai_masks(image)
            found[f"our {algorithm}"] = rank_regions(attribution, masks, fast=algorithm == "fast")

        contenders: Contenders = {}
        for name in ("fast", "full"):
            contenders[f"our {name}"] = partial(our_map, name)
            contenders[f"saliency {name}"] = partial(reference_map, name)
        times = cpu_ms(contenders, repetitions)
        for name in ("fast", "full"):
            equal = np.array_equal(results[name], results[f"our {name}"])
            show(f"XRAI regions, {kind}", times, [(f"our {name}", f"saliency {name}", 15)])
            print(f"{'':44} heat maps bit-equal: {equal}")


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


def network_of(name: str) -> Classifier:
    torch.manual_seed(0)
    return build_classifier(resolve(name), 10, input_size=SIZE)


def ours(name: str) -> Contenders:
    keep_big_blocks()
    frozen = freeze(network_of(name))
    images = torch.from_numpy(photo(SIZE)).permute(2, 0, 1)[None].contiguous()

    def explain(algorithm: str, fast: bool = True) -> None:
        parameters = Parameters(algorithm, n_steps=STEPS, xrai_fast=fast)
        attribution_method(algorithm).attribute(frozen, images, [TARGET], parameters)

    return {
        "XRAI fast": partial(explain, "xrai"),
        "XRAI full": partial(explain, "xrai", fast=False),
        "integrated gradients": partial(explain, "integrated_gradients"),
        "guided backprop": partial(explain, "guided_backprop"),
    }


def theirs(name: str) -> Contenders:
    network = network_of(name)
    image = photo(SIZE)
    images = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    return {
        "XRAI fast": partial(saliency_xrai, network, image, "fast", 5),
        "XRAI full": partial(saliency_xrai, network, image, "full", 5),
        "integrated gradients": partial(
            captum.attr.IntegratedGradients(network).attribute,
            images,
            target=TARGET,
            n_steps=STEPS,
            method="riemann_middle",
            internal_batch_size=5,
        ),
        "guided backprop": partial(
            captum.attr.GuidedBackprop(network).attribute, images, target=TARGET
        ),
    }


def answer(side: Callable[[str], Contenders], name: str, pipe: Connection) -> None:
    """Run in a process of its own: for each name of a method, send its CPU time back."""
    prepare()
    contenders = side(name)
    while (wanted := pipe.recv()) is not None:
        # What takes milliseconds is repeated, and the best of ten counts.
        repetitions = 10 if wanted == "guided backprop" else 1
        pipe.send(cpu_ms({wanted: contenders[wanted]}, repetitions)[wanted])


def end_to_end(name: str, repetitions: int) -> None:
    pipes: dict[str, Connection] = {}
    processes = []
    for label, side in {"ours": ours, "theirs": theirs}.items():
        pipes[label], child = multiprocessing.Pipe()
        processes.append(multiprocessing.Process(target=answer, args=(side, name, child)))
        processes[-1].start()
    mobile = name.startswith("mobilenet")
    targets = {
        "XRAI fast": ("saliency fast, batch 5", 1.5 if mobile else 1.3),
        "XRAI full": ("saliency full, batch 5", 3 if mobile else 1.6),
        "integrated gradients": ("captum, batch 5", 1.2),
        "guided backprop": ("captum", 1.2),
    }
    for contender, (peer, target) in targets.items():
        times = {"ours": float("inf"), peer: float("inf")}
        for _ in range(repetitions):
            for label, key in (("ours", "ours"), ("theirs", peer)):
                pipes[label].send(contender)
                times[key] = min(times[key], pipes[label].recv())
        show(f"{contender}, {name}", times, [("ours", peer, target)])
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join()


def prepare() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warm_up()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=["mobilenetv3_large_100", "resnet18"])
    options = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    prepare()
    without_gradients(options.repetitions)
    for name in options.networks:
        end_to_end(name, options.repetitions)


if __name__ == "__main__":
    main()
