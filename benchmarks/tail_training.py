"""Tail training beside the frozen head it starts from, out of fold, and what an epoch costs.

    scripts/bench tail_training fridge coco-multilabel --model tf_efficientnet_lite1
    scripts/bench tail_training fridge --set num_epochs=16 --set batch_size=16

Log loss and accuracy are pooled over a set's runs, with temperature 1 and with the one that fits
them best, for each share of the trained weights. Times are CPU time of one thread, of real steps.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import SETS, ImageSet, names_of
from frozen_peer import targets_of

from autofocus.data.images.fetch import content_hash
from autofocus.models import catalog
from autofocus.models.network import Classifier
from autofocus.models.timm.classifiers import build_classifier
from autofocus.models.weights.load import load_weights
from autofocus.tasks import TASKS
from autofocus.training.activations import Activations, compute_activations
from autofocus.training.candidate import Samples
from autofocus.training.device import prepare_torch
from autofocus.training.losses import OBJECTIVES
from autofocus.training.probe import HEADS, fit_probe
from autofocus.training.recipe import Recipe
from autofocus.training.tail import fit_all, fit_tail, mixed_tail, tail_logits, tail_recipe

SHARES = (0.0, 0.25, 0.5, 1.0)
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--cut", type=int, help="default: the network's preferred one")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], help="a field of the recipe")
    parser.add_argument("--output", "-o", type=Path, default=Path(tempfile.gettempdir(), "tails"))
    arguments = parser.parse_args()
    prepare_torch()
    recipe = tail_recipe()
    for one in arguments.set:
        name, _, value = one.partition("=")
        recipe = replace(recipe, **{name: yaml.safe_load(value)})
    for name in arguments.sets:
        images = SETS[name](arguments.output / "photos")
        print(f"\n{name}: {len(images.rows)} photos, {arguments.model}", flush=True)
        compare(images, arguments, recipe)


def compare(images: ImageSet, arguments: argparse.Namespace, recipe: Recipe) -> None:
    """Print the quality and the cost of one set."""
    spec = catalog.resolve(arguments.model)
    network = build_classifier(spec, len(images.labels), load_weights(spec))
    locations = [str(row["image_url"]) for row in images.rows]
    hashes = [content_hash(Path(location).read_bytes()) for location in locations]
    samples = Samples(images.rows, locations, targets_of(images), hashes, images.groups, "photos")
    cut = arguments.cut or network.cuts[0]
    activations = compute_activations(
        network,
        cut,
        spec.preprocess,
        samples,
        num_views=arguments.views,
        folder=arguments.output,
        device=CPU,
        seed=0,
    )
    assert activations is not None, "nothing ends it early"
    run = partial(logits_of, images, activations, network.cut_at(cut).tail, recipe)
    parts = fit_all([partial(run, number) for number in range(len(images.judges))])
    kind = HEADS[TASKS[images.task].activation]
    judges = np.concatenate(images.judges)
    targets = np.asarray(samples.targets)[judges]
    for share in SHARES:
        logits = np.concatenate([part[share] for part in parts])
        cooled = logits / kind.temperature(logits, targets)
        right = logits.argmax(1) == targets if targets.ndim == 1 else (logits > 0) == targets
        print(
            f"  {share:4g} trained: log loss {kind.loss(logits, targets):.4f}, at the best "
            f"temperature {kind.loss(cooled, targets):.4f}, accuracy {right.mean():.3f}",
            flush=True,
        )
    tail_ms, whole_ms = cost(images, activations, network, cut, recipe)
    print(f"  CPU of an image and epoch: {tail_ms:.1f} ms, whole network {whole_ms:.1f} ms")


def logits_of(
    images: ImageSet, activations: Activations, tail: Classifier, recipe: Recipe, run: int
) -> dict[float, np.ndarray]:
    """Return logits of the photos that judge a run, by the share of trained weights."""
    learners, judge = images.learners(run), images.judges[run]
    targets = targets_of(images)
    probe = fit_probe(
        activations.features[learners, :2],
        targets[learners],
        kind=TASKS[images.task].activation,
        num_classes=len(images.labels),
        labels_of=[names_of(images.rows[i]) for i in learners],
        groups=[images.groups[i] for i in learners],
        seed=0,
    )
    initial = mixed_tail(tail, tail.state_dict(), 0)
    initial.set_head(probe.head.weight, probe.head.bias)
    state = fit_tail(
        initial, activations, targets, learners, task=images.task, recipe=recipe, seed=0
    )
    assert state is not None, "nothing ends it early"
    return {
        share: tail_logits(mixed_tail(initial, state, share), activations, judge)
        for share in SHARES
    }


def cost(
    images: ImageSet, activations: Activations, network: Classifier, cut: int, recipe: Recipe
) -> tuple[float, float]:
    """Return CPU milliseconds of an image and step, of the tail and of the whole network."""
    torch.set_num_threads(1)
    targets, everything = targets_of(images), np.arange(len(activations))
    tail, size = network.cut_at(cut).tail, min(recipe.batch_size, len(activations))
    fit = partial(fit_tail, tail, activations, targets, everything, task=images.task, seed=0)
    objective = OBJECTIVES[images.task](recipe, targets, network)
    network.to(memory_format=torch.channels_last)
    side = network.input_size
    batch = torch.randn(size, 3, side, side).to(memory_format=torch.channels_last)
    wanted = objective.collate(list(targets[:size]), CPU)

    def whole(num_steps: int) -> None:
        for _ in range(num_steps):
            objective.loss(network, batch, wanted).backward()

    tail_s = _a_step(lambda num_steps: fit(recipe=recipe, max_steps=num_steps))
    return 1e3 * tail_s / size, 1e3 * _a_step(whole) / size


def _a_step(run: Callable[[int], Any]) -> float:
    """Return the CPU seconds of a step: what five take more than one."""
    spent = []
    for num_steps in (1, 1, 5):
        started_s = time.thread_time()
        run(num_steps)
        spent.append(time.thread_time() - started_s)
    return (spent[2] - spent[1]) / 4


if __name__ == "__main__":
    main()
