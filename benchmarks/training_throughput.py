"""Training on the CPU: autofocus's loop beside a plain timm and torchvision loop.

`tf_efficientnet_lite0` at 224 px, AdamW, gradients clipped, from 640 x 480 JPEG files, decoding
and augmentation included. Each contestant runs in a process of its own, with as many threads, the
same batch and model; they take turns, round by round. What is timed begins after a few steps, when
queues are full, and ends with a step, so that no work is left out. CPU time counts all threads and
all worker processes.

plain            contiguous tensors, default allocator, DataLoader with workers, Pillow, torchvision
+ allocator      the same, and glibc keeps big blocks
+ channels_last  the same, and tensors in channels-last order
both             the two together: what is left is the input
same work        our loop and input in its first epoch, all layers and norms as in the plain loop
cached           the same from the second epoch on
default recipe   as `train` does it: frozen norm statistics, averaged weights, layer-wise rates

    .venv/bin/python benchmarks/training_throughput.py [--rounds 3] [--steps 12] [--json]
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

MODEL = "tf_efficientnet_lite0"
SIDE, NUM_CLASSES, NUM_FILES = 224, 10, 64
TARGET = 1.8
CONTESTANTS = (
    "plain",
    "+ allocator",
    "+ channels_last",
    "both",
    "same work",
    "cached",
    "default recipe",
)


def main() -> int:
    arguments = parse_arguments()
    if arguments.contestant:
        print(json.dumps(contest(arguments)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        from input_pipeline import write_photos

        write_photos(Path(folder), NUM_FILES)
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
        for number in range(arguments.rounds):
            # Whoever is first in a round is last in the next one.
            for name in CONTESTANTS if number % 2 == 0 else reversed(CONTESTANTS):
                runs[name].append(run_alone(arguments, name, folder))
                print(f"round {number + 1}: {name} {runs[name][-1]}", file=sys.stderr)
    result = summary(arguments, runs)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print_table(result)
    return 0 if result["passes"] else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="timed steps a round")
    parser.add_argument("--warmup", type=int, default=4, help="steps before that")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--workers", type=int, default=2, help="of the plain DataLoader")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--photos", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_alone(arguments: argparse.Namespace, name: str, photos: str) -> dict[str, float]:
    numbers = ("steps", "warmup", "batch", "threads", "workers")
    options = [f"--{key}={getattr(arguments, key)}" for key in numbers]
    command = [sys.executable, __file__, f"--contestant={name}", f"--photos={photos}", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def summary(
    arguments: argparse.Namespace, runs: dict[str, list[dict[str, float]]]
) -> dict[str, object]:
    keys = ("images_a_cpu_s", "images_a_s", "peak_mb")
    rows = {
        name: {key: statistics.median(run[key] for run in measured) for key in keys}
        for name, measured in runs.items()
    }
    for name, row in rows.items():
        # Paired by round: what slows the machine down slows both.
        for key, ratio in (("images_a_cpu_s", "times_cpu"), ("images_a_s", "times_wall")):
            pairs = zip(runs[name], runs["plain"], strict=True)
            row[ratio] = statistics.median(own[key] / plain[key] for own, plain in pairs)
    return {
        "machine": f"{platform.machine()} {platform.system()}, {arguments.threads} threads",
        "batch": arguments.batch,
        "rounds": arguments.rounds,
        "contestants": rows,
        "target": TARGET,
        "passes": rows["cached"]["times_cpu"] >= TARGET,
    }


def print_table(result: dict) -> None:
    print(f"{MODEL} at {SIDE} px, batch {result['batch']}, {result['machine']}\n")
    print(f"{'':16} images/CPU s      x   images/s      x   peak MB")
    for name, row in result["contestants"].items():
        print(
            f"{name:16} {row['images_a_cpu_s']:12.1f} {row['times_cpu']:6.2f} "
            f"{row['images_a_s']:10.1f} {row['times_wall']:6.2f} {row['peak_mb']:9.0f}"
        )
    print(f"\ntarget: cached >= {result['target']} x plain: {'ok' if result['passes'] else 'NO'}")


class Watch:
    """Measurement from the end of step `warmup` to the end of step `warmup + steps`."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._first, self._last = arguments.warmup, arguments.warmup + arguments.steps
        self._num_images = arguments.steps * arguments.batch
        self._num_done = 0
        self.measured: dict[str, float] = {}

    def step_is_done(self) -> bool:
        """Note a step; return whether it was the last one."""
        self._num_done += 1
        if self._num_done == self._first:
            self._wall_s, self._cpu_s = time.monotonic(), cpu_s()
        if self._num_done < self._last:
            return False
        wall_s, used_s = time.monotonic() - self._wall_s, cpu_s() - self._cpu_s
        self.measured = {
            "images_a_cpu_s": self._num_images / used_s,
            "images_a_s": self._num_images / wall_s,
            "peak_mb": peak_mb(),
        }
        return True


def processes() -> Iterator[object]:
    import psutil

    own = psutil.Process()
    yield own
    yield from own.children(recursive=True)


def cpu_s() -> float:
    """Return the CPU seconds of this process and of its workers."""
    times = [process.cpu_times() for process in processes()]
    return sum(each.user + each.system for each in times)


def peak_mb() -> float:
    """Return the peak memory of this process and the present memory of its workers, in MB."""
    own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    _, *workers = processes()
    return own_mb + sum(worker.memory_full_info().uss for worker in workers) / 1e6


def contest(arguments: argparse.Namespace) -> dict[str, float]:
    import torch

    from autofocus.runtime import keep_big_blocks

    name = arguments.contestant
    if name not in ("plain", "+ channels_last"):
        keep_big_blocks()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    photos = sorted(str(path) for path in Path(arguments.photos).glob("*.jpg"))
    num_images = (arguments.steps + arguments.warmup) * arguments.batch
    photos = (photos * (num_images // len(photos) + 1))[:num_images]
    watch = Watch(arguments)
    if name in ("same work", "cached", "default recipe"):
        train_ours(arguments, name, photos, watch)
    else:
        train_plain(arguments, photos, name in ("+ channels_last", "both"), watch.step_is_done)
    return watch.measured


def train_plain(
    arguments: argparse.Namespace,
    photos: list[str],
    channels_last: bool,
    step_is_done: Callable[[], bool],
) -> None:
    """Train as timm's and torchvision's examples do."""
    import timm
    import torch
    from input_pipeline import v2_transform
    from PIL import Image
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, Dataset

    class Photos(Dataset):
        def __init__(self) -> None:
            self.transform = v2_transform()

        def __len__(self) -> int:
            return len(photos)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            with Image.open(photos[i]) as image:
                return self.transform(image.convert("RGB")), i % NUM_CLASSES

    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = timm.create_model(MODEL, num_classes=NUM_CLASSES).to(memory_format=layout).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    loader = DataLoader(
        Photos(),
        arguments.batch,
        shuffle=True,
        drop_last=True,
        num_workers=arguments.workers,
        multiprocessing_context="fork" if arguments.workers else None,
    )
    for images, targets in loader:
        loss = F.cross_entropy(model(images.to(memory_format=layout)), targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        if step_is_done():
            return


def train_ours(arguments: argparse.Namespace, name: str, photos: list[str], watch: Watch) -> None:
    import numpy as np
    import torch
    from input_pipeline import PARAMS, SPEC

    from autofocus.data.batches.augment.presets import PRESETS
    from autofocus.data.batches.cache.budget import free_budget
    from autofocus.data.batches.loader import Loader
    from autofocus.data.batches.views import ClassificationViews
    from autofocus.models import catalog
    from autofocus.models.timm.classifiers import build_classifier
    from autofocus.tasks.multiclass import MulticlassClassification
    from autofocus.training.device import make_accelerator
    from autofocus.training.evaluate import EvaluationSet
    from autofocus.training.loop import TrainingLoop
    from autofocus.training.losses import OBJECTIVES
    from autofocus.training.recipe import Recipe

    recipe = Recipe(batch_size=arguments.batch)
    augmentation = PRESETS[recipe.augmentation]
    if name != "default recipe":
        recipe = replace(recipe, freeze_norm_stats=False, ema_decay=None)
        recipe = replace(recipe, layer_decay=1.0, backbone_scale=1.0)
        augmentation = PARAMS
    network = build_classifier(catalog.resolve(MODEL), NUM_CLASSES, None, SIDE)
    labels = [str(k) for k in range(NUM_CLASSES)]
    targets = np.arange(len(photos)) % NUM_CLASSES
    task = MulticlassClassification()
    with (
        Loader(
            photos,
            ClassificationViews(SPEC, targets, augmentation),
            batch_size=arguments.batch,
            num_threads=arguments.threads,
            cache=free_budget(),
            shuffle=True,
        ) as training,
        Loader(
            photos[:NUM_CLASSES],
            ClassificationViews(SPEC, range(NUM_CLASSES)),
            batch_size=arguments.batch,
        ) as validation,
        tempfile.TemporaryDirectory() as folder,
    ):
        if name != "same work":
            for _ in training.epoch(0):
                pass
        loop = TrainingLoop(
            network=network.to(memory_format=torch.channels_last),
            task=task,
            objective=OBJECTIVES[task.name](recipe, targets, network),
            recipe=recipe,
            training=training,
            validation=EvaluationSet(validation, np.arange(NUM_CLASSES), labels),
            score=lambda metrics: -float(metrics["log_loss"]),
            folder=Path(folder),
            seed=0,
            accelerator=make_accelerator(torch.device("cpu")),
            should_stop=watch.step_is_done,
        )
        loop.run()


if __name__ == "__main__":
    sys.exit(main())
