"""Training input: autofocus beside torchvision v2, the same operations on the same photos.

Random resized crop to 224 px, flip, brightness and contrast 0.3, normalisation, batches of 32; from
640 x 480 JPEG files, decoding included. One thread; CPU time of the whole process, so that no
work can hide in other threads; the contestants take turns, round by round. All of them run under
the allocator settings of a training run, which spare both sides page faults.

torchvision is run twice: on tensors, its fastest way, and on Pillow images, as its ImageFolder
gives them. The targets count against the faster of the two.

    .venv/bin/python benchmarks/input_pipeline.py [--task classification] [--images 64] [--json]
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch
import torchvision
from PIL import Image
from torchvision.io import decode_image
from torchvision.transforms import v2

from autofocus.data.batches.augment.presets import Augmentation
from autofocus.data.batches.augment.tone import grey_mean, sample_tone, tone_table
from autofocus.data.batches.augment.view import sample_matrix
from autofocus.data.batches.cache.budget import CacheBudget
from autofocus.data.batches.loader import Loader
from autofocus.data.batches.order import view_rng
from autofocus.data.batches.preprocess import normalize
from autofocus.data.batches.views import ClassificationViews
from autofocus.data.batches.warp import warp
from autofocus.data.images.decode import decode
from autofocus.data.images.fetch import open_bytes
from autofocus.demo import render_scene
from autofocus.manifest import ResizeCrop
from autofocus.runtime import keep_big_blocks

BATCH_SIZE = 32
SPEC = ResizeCrop(resize_size=256, crop_size=224)
AREA, ASPECT, JITTER = (0.35, 1.0), (3 / 4, 4 / 3), 0.3
PARAMS = Augmentation(AREA, ASPECT, brightness=JITTER, contrast=JITTER)
# What a training run does by default besides.
TURNED = Augmentation(AREA, ASPECT, rotation_deg=10, brightness=JITTER, contrast=JITTER)
TARGET_FIRST, TARGET_CACHED = 1.7, 4.0
JPEG_QUALITY = 90


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=["classification"], default="classification")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    args = parser.parse_args()
    keep_big_blocks()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        photos = write_photos(Path(folder), args.images)
        result = {
            "machine": f"{platform.machine()} {platform.system()}",
            "torchvision": torchvision.__version__,
            "num_images": args.images,
            "mean_file_kb": np.mean([Path(path).stat().st_size for path in photos]) / 1e3,
            **compare(photos, args.rounds, Path(folder)),
            "stages_ms": time_stages(photos, args.rounds),
        }
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print_tables(result)
    return 0 if result["passes"] else 1


def write_photos(folder: Path, num_images: int) -> list[str]:
    """Render scenes, bring them to 640 x 480 and store them as cameras do (4:2:0)."""
    paths = []
    for number in range(num_images):
        image = render_scene(0, number).image
        image = np.rot90(image) if image.shape[0] > image.shape[1] else image
        image = cv2.resize(np.ascontiguousarray(image), (640, 480), interpolation=cv2.INTER_CUBIC)
        # Sensors are never as clean as an enlarged rendering; noise makes files of a usual size.
        noise = np.random.default_rng(number).normal(0, 4, image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
        path = folder / f"{number:04d}.jpg"
        path.write_bytes(simplejpeg.encode_jpeg(image, JPEG_QUALITY, colorsubsampling="420"))
        paths.append(str(path))
    return paths


def v2_transform() -> v2.Compose:
    return v2.Compose(
        [
            v2.RandomResizedCrop(224, scale=AREA, ratio=ASPECT, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=JITTER, contrast=JITTER),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(SPEC.mean, SPEC.std),
        ]
    )


def batched_v2(load: Callable[[int], object], num_images: int) -> None:
    """Load batches as a DataLoader does, without its queues."""
    transform = v2_transform()
    for start in range(0, num_images, BATCH_SIZE):
        torch.stack([transform(load(i)) for i in range(start, min(num_images, start + BATCH_SIZE))])


def compare(photos: list[str], rounds: int, folder: Path) -> dict[str, object]:
    epochs = iter(range(10**9))
    num_images = len(photos)

    def loader(cache: CacheBudget | None, params: Augmentation = PARAMS) -> Loader:
        views = ClassificationViews(SPEC, range(num_images), params)
        return Loader(
            photos, views, batch_size=BATCH_SIZE, num_threads=1, cache=cache, shuffle=True
        )

    def first_epoch() -> None:
        with loader(CacheBudget(ram_bytes=1 << 34)) as fresh:
            run_epoch(fresh, next(epochs))

    disk = CacheBudget(disk_bytes=1 << 34, folder=folder)
    decoded_v2 = [decode_image(path) for path in photos]
    with (
        loader(None) as uncached,
        loader(CacheBudget(ram_bytes=1 << 34)) as in_memory,
        loader(disk) as on_disk,
        loader(CacheBudget(ram_bytes=1 << 34), TURNED) as turned,
    ):
        for cached in (in_memory, on_disk, turned):
            run_epoch(cached, next(epochs))
        contestants = {
            "torchvision v2, tensors": lambda: batched_v2(
                lambda i: decode_image(photos[i]), num_images
            ),
            "torchvision v2, Pillow": lambda: batched_v2(
                lambda i: Image.open(photos[i]).convert("RGB"), num_images
            ),
            "torchvision v2, decoded in RAM": lambda: batched_v2(
                decoded_v2.__getitem__, num_images
            ),
            "autofocus, no cache": lambda: run_epoch(uncached, next(epochs)),
            "autofocus, first epoch, filling it": first_epoch,
            "autofocus, from RAM": lambda: run_epoch(in_memory, next(epochs)),
            "autofocus, from a mapped file": lambda: run_epoch(on_disk, next(epochs)),
            "autofocus, from RAM, with rotation": lambda: run_epoch(turned, next(epochs)),
        }
        times = take_turns(contestants, rounds)
        storages = {
            "cache_mb": in_memory.cache.used_bytes / 1e6,
            "cached_as": [
                f"{it.cache.storage.form} {it.cache.storage.place}" for it in (in_memory, on_disk)
            ],
        }
    ms = {name: statistics.median(taken) / num_images * 1e3 for name, taken in times.items()}
    peer = min(ms["torchvision v2, tensors"], ms["torchvision v2, Pillow"])
    first = peer / ms["autofocus, first epoch, filling it"]
    cached = peer / ms["autofocus, from a mapped file"]
    return {
        "cpu_ms_per_image": ms,
        "ratio_first_epoch": first,
        "ratio_cached": cached,
        "passes": first >= TARGET_FIRST and cached >= TARGET_CACHED,
        **storages,
    }


def run_epoch(loader: Loader, epoch: int) -> None:
    for _ in loader.epoch(epoch):
        pass


def take_turns(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Run functions in turns, after an unmeasured round; return their CPU seconds by round."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            start = time.process_time()
            run()
            if number:
                times[name].append(time.process_time() - start)
    return times


def time_stages(photos: list[str], rounds: int) -> dict[str, float]:
    """Return the cost of each step of one image when it runs alone, in ms."""
    files = [open_bytes(path) for path in photos]
    images = [decode(data) for data in files]
    numbers = range(len(photos))
    matrices = [sample_matrix(view_rng(0, 0, i), 480, 640, 224, PARAMS) for i in numbers]
    views = [
        warp(image, matrix, (224, 224)) for image, matrix in zip(images, matrices, strict=True)
    ]
    out = np.empty((224, 224, 3), np.float32)
    levels = np.arange(256, dtype=np.uint8)

    def tone(i: int) -> None:
        tone_table(*sample_tone(view_rng(0, 0, i), PARAMS), grey_mean(views[i]))

    stages: dict[str, Callable[[int], object]] = {
        "read the file": lambda i: open_bytes(photos[i]),
        "decode": lambda i: decode(files[i]),
        "draw the matrix": lambda i: sample_matrix(view_rng(0, 0, i), 480, 640, 224, PARAMS),
        "warp, antialiased": lambda i: warp(images[i], matrices[i], SPEC.size),
        "brightness, contrast: table": tone,
        "apply table and normalise": lambda i: normalize(views[i], SPEC, out, levels),
    }
    loops = {
        name: (lambda stage=stage: [stage(i) for i in numbers]) for name, stage in stages.items()
    }
    times = take_turns(loops, rounds)
    return {name: statistics.median(taken) / len(photos) * 1e3 for name, taken in times.items()}


def print_tables(result: dict[str, object]) -> None:
    print(
        f"{result['machine']}, torchvision {result['torchvision']}; {result['num_images']} photos,"
    )
    print(
        f"640 x 480, {result['mean_file_kb']:.0f} kB each; cache {result['cache_mb']:.0f} MB,",
        end="",
    )
    print(f" {result['cache_mb'] / result['num_images']:.2f} MB an image: {result['cached_as']}\n")
    ms = result["cpu_ms_per_image"]
    tensors, pillow = ms["torchvision v2, tensors"], ms["torchvision v2, Pillow"]
    print("| pipeline | CPU ms an image | x v2 tensors | x v2 Pillow |\n|---|---|---|---|")
    for name, value in ms.items():
        print(f"| {name} | {value:.2f} | {tensors / value:.2f} | {pillow / value:.2f} |")
    print("\n| stage, alone | CPU ms |\n|---|---|")
    for name, value in result["stages_ms"].items():
        print(f"| {name} | {value:.3f} |")
    print(f"\nfirst epoch {result['ratio_first_epoch']:.2f}x (target {TARGET_FIRST}), ", end="")
    print(f"cached {result['ratio_cached']:.2f}x (target {TARGET_CACHED}): ", end="")
    print("met" if result["passes"] else "MISSED")


if __name__ == "__main__":
    sys.exit(main())
