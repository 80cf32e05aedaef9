"""Training input with objects: autofocus beside torchvision v2, the same operations and photos.

Zoom-out, crop around objects, flip, brightness and contrast 0.3, resize to the canvas,
normalisation, boxes (and masks) moved along, batches of 8; from 640 x 480 JPEG files, decoding
included. One thread; CPU time of the whole process; the contestants take turns, round by round.
Ranges are made equal: objects at half to almost double their size.

For masks both sides start from polygons. torchvision transforms bitmaps of the image's size, which
its reference code draws with pycocotools; autofocus moves points and draws at a quarter of the
canvas, which is what losses read, and once at its full size, for comparison.

    .venv/bin/python benchmarks/input_pipeline_boxes.py [--images 16] [--rounds 5] [--json]
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision
from input_pipeline import run_epoch, take_turns, write_photos
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision import tv_tensors
from torchvision.io import decode_image
from torchvision.transforms import v2

from autofocus.data.batches.augment.presets import BoxAugmentation
from autofocus.data.batches.box_views import BoxViews
from autofocus.data.batches.cache.budget import CacheBudget
from autofocus.data.batches.loader import Loader
from autofocus.data.batches.outline_views import OutlineViews
from autofocus.manifest import ResizeFit
from autofocus.runtime import keep_big_blocks
from autofocus.structures.targets import OutlineTarget

BATCH_SIZE = 8
HEIGHT, WIDTH = 480, 640
CANVASES = (640, 416)
LEAST_ZOOM, GREATEST_ZOOM, JITTER = 0.55, 1.8, 0.3
PARAMS = BoxAugmentation(
    whole_prob=0.0,
    zoom_range=(LEAST_ZOOM, GREATEST_ZOOM),
    brightness=JITTER,
    contrast=JITTER,
)
TARGETS = {"boxes": 5.0, "masks": 3.0}
NUM_OBJECTS, NUM_POINTS = 8, 40
TENSORS, PILLOW = "torchvision v2, tensors", "torchvision v2, Pillow"
FIRST, CACHED = "autofocus, first epoch, filling its cache", "autofocus, from RAM"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    args = parser.parse_args()
    keep_big_blocks()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        photos = write_photos(Path(folder), args.images)
        targets = [random_objects(number) for number in range(args.images)]
        result = {
            "machine": f"{platform.machine()} {platform.system()}",
            "torchvision": torchvision.__version__,
            "num_images": args.images,
            "num_objects": NUM_OBJECTS,
            "cases": [
                compare(photos, targets, kind, side, args.rounds)
                for kind in TARGETS
                for side in CANVASES
            ],
        }
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print_tables(result)
    return 0 if all(case["passes"] for case in result["cases"]) else 1


def random_objects(seed: int) -> OutlineTarget:
    """Return blobs of 5 to 20 % of the image's side."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, NUM_POINTS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    middles = rng.uniform(0.15, 0.85, (NUM_OBJECTS, 1, 2))
    radii = rng.uniform(0.025, 0.1, (NUM_OBJECTS, 1, 2))
    wobble = rng.uniform(0.8, 1.2, (NUM_OBJECTS, NUM_POINTS, 1))
    rings = (middles + radii * circle * wobble).clip(0, 1).astype(np.float32)
    boxes = np.concatenate([rings.min(axis=1), rings.max(axis=1)], axis=1)
    is_crowd = np.zeros(NUM_OBJECTS, np.bool_)
    classes = rng.integers(0, 3, NUM_OBJECTS)
    polygons = tuple((ring,) for ring in rings)
    return OutlineTarget(boxes, classes, is_crowd, (HEIGHT, WIDTH), polygons)


def compare(
    photos: list[str], targets: list[OutlineTarget], kind: str, side: int, rounds: int
) -> dict[str, object]:
    """Time all contestants for one kind of target on one canvas."""
    epochs = iter(range(10**9))
    spec = ResizeFit(height=side, width=side, keep_aspect=False)
    in_ram = CacheBudget(ram_bytes=1 << 34)

    def loader(cache: CacheBudget | None, stride: int = 4) -> Loader:
        if kind == "boxes":
            views = BoxViews(spec, targets, PARAMS)
        else:
            views = OutlineViews(spec, targets, PARAMS, stride)
        return Loader(
            photos, views, batch_size=BATCH_SIZE, num_threads=1, cache=cache, shuffle=True
        )

    def first_epoch() -> None:
        with loader(in_ram) as fresh:
            run_epoch(fresh, next(epochs))

    transform = v2_transform(spec)
    with loader(None) as uncached, loader(in_ram) as cached, loader(in_ram, 1) as full:
        contestants: dict[str, Callable[[], object]] = {
            TENSORS: lambda: batched_v2(transform, photos, targets, kind, decode_image),
            PILLOW: lambda: batched_v2(transform, photos, targets, kind, open_pillow),
            "autofocus, no cache": lambda: run_epoch(uncached, next(epochs)),
            FIRST: first_epoch,
            CACHED: lambda: run_epoch(cached, next(epochs)),
        }
        if kind == "masks":
            contestants["autofocus, from RAM, masks of the full canvas"] = lambda: run_epoch(
                full, next(epochs)
            )
        times = take_turns(contestants, rounds)
        cache_mb = cached.cache.used_bytes / 1e6
    ms = {name: statistics.median(taken) / len(photos) * 1e3 for name, taken in times.items()}
    peer = min(ms[TENSORS], ms[PILLOW])
    first, later = peer / ms[FIRST], peer / ms[CACHED]
    return {
        "kind": kind,
        "canvas": side,
        "cpu_ms_per_image": ms,
        "ratio_first_epoch": first,
        "ratio_cached": later,
        "target": TARGETS[kind],
        "passes": first >= TARGETS[kind],
        "cache_mb": cache_mb,
    }


def v2_transform(spec: ResizeFit) -> v2.Compose:
    """Compose the reference recipe of SSD, jitter first, where the image is smallest."""
    return v2.Compose(
        [
            v2.ColorJitter(brightness=JITTER, contrast=JITTER),
            v2.RandomZoomOut(side_range=(1.0, 1 / LEAST_ZOOM), p=0.5),
            v2.RandomIoUCrop(min_scale=1 / GREATEST_ZOOM),
            v2.RandomHorizontalFlip(),
            v2.Resize(spec.size, antialias=True),
            v2.SanitizeBoundingBoxes(min_size=1),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(spec.mean, spec.std),
        ]
    )


def batched_v2(
    transform: v2.Compose,
    photos: list[str],
    targets: list[OutlineTarget],
    kind: str,
    load: Callable[[str], object],
) -> None:
    """Load batches as a DataLoader does, without its queues."""
    for start in range(0, len(photos), BATCH_SIZE):
        drawn = [
            transform(load(path), v2_target(target, kind))
            for path, target in zip(
                photos[start : start + BATCH_SIZE], targets[start : start + BATCH_SIZE], strict=True
            )
        ]
        torch.stack([image for image, _ in drawn])


def v2_target(target: OutlineTarget, kind: str) -> dict[str, torch.Tensor]:
    boxes = target.xyxy_frac * np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    found = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(HEIGHT, WIDTH)),
        "labels": torch.from_numpy(target.classes),
    }
    if kind == "masks":
        found["masks"] = tv_tensors.Mask(torch.from_numpy(bitmaps(target)))
    return found


def bitmaps(target: OutlineTarget) -> NDArray[np.uint8]:
    """Return masks [m, h, w] as torchvision's reference code makes them of COCO's polygons."""
    flat = [[(ring * (WIDTH, HEIGHT)).ravel() for ring in rings] for rings in target.polygons]
    masks = [coco_mask.decode(coco_mask.frPyObjects(rings, HEIGHT, WIDTH)) for rings in flat]
    return np.stack([mask.any(axis=2).astype(np.uint8) for mask in masks])


def open_pillow(path: str) -> Image.Image:
    return Image.open(path).convert("RGB")


def print_tables(result: dict[str, object]) -> None:
    print(
        f"{result['machine']}, torchvision {result['torchvision']}; {result['num_images']} photos, "
        f"{WIDTH} x {HEIGHT}, {result['num_objects']} objects each"
    )
    for case in result["cases"]:
        ms = case["cpu_ms_per_image"]
        print(f"\n## {case['kind']}, {case['canvas']} px; cache {case['cache_mb']:.0f} MB\n")
        print("| pipeline | CPU ms an image | x v2 tensors | x v2 Pillow |\n|---|---|---|---|")
        for name, value in ms.items():
            print(
                f"| {name} | {value:.2f} | {ms[TENSORS] / value:.2f} | {ms[PILLOW] / value:.2f} |"
            )
        print(
            f"\nfirst epoch {case['ratio_first_epoch']:.2f}x, cached {case['ratio_cached']:.2f}x "
            f"(target {case['target']}): {'met' if case['passes'] else 'MISSED'}"
        )


if __name__ == "__main__":
    sys.exit(main())
