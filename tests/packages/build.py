"""Build the model packages that `tests/e2e/test_old_packages.py` loads, and what they answer.

It is of commit b7c8d02 and runs with its source, not with today's, whose modules may lie elsewhere:

    git worktree add --detach /tmp/old b7c8d02
    PYTHONPATH=/tmp/old/src OMP_NUM_THREADS=1 .venv/bin/python tests/packages/build.py \
        tests/packages/b7c8d02
    git worktree remove --force /tmp/old

What a later version has to keep reading is added beside it, not instead of it. Networks are random
and nearly all of their weights are 0, so that an archive of all four is small.
"""

import io
import json
import math
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from autofocus.models.build import build, network_options
from PIL import Image

from autofocus import api
from autofocus.manifest import DataInfo, Manifest, ResizeCrop, ResizeFit, WeightsInfo
from autofocus.models import catalog
from autofocus.models.box_profile import TYPICAL
from autofocus.package.mlflow_model import write_package
from autofocus.tasks import TASKS

LABELS = ["can", "carton", "milk_bottle"]
CLASSIFIER = "test_resnet"
DETECTORS = {
    "image_object_detection": "fcos_test_resnet_fpn",
    "image_instance_segmentation": "maskrcnn_test_resnet_fpn",
}
CANVAS = 64, 96
CROP = 64
NARROW = {
    "channels": 32,
    "head_width": 32,
    "num_mask_layers": 1,
    "num_proposals": 20,
    "num_candidates": 40,
    "num_masks": 6,
    "num_samples": 16,
}
NONZERO_FRAC = 0.1
EXPLAINED = {
    "image_classification": [
        {"xai_algorithm": "xrai", "n_steps": 5},
        {"xai_algorithm": "integrated_gradients", "n_steps": 5},
        {"xai_algorithm": "guided_gradcam"},
        {"xai_algorithm": "guided_backprop"},
    ],
    "image_object_detection": [{"xai_algorithm": "d_rise", "num_masks": 16, "max_boxes": 2}],
}


def main(target: Path) -> None:
    """Write photos, `packages.tar.xz` and `replies.json`."""
    target.mkdir(parents=True, exist_ok=True)
    photos = [write_photo(target / f"photo-{seed}.png", seed) for seed in range(3)]
    replies = {}
    with tempfile.TemporaryDirectory() as temporary:
        for seed, task in enumerate(TASKS):
            folder = Path(temporary) / task
            make_package(folder, task, seed)
            replies[task] = answers(folder, task, photos)
        pack(Path(temporary), target / "packages.tar.xz")
    (target / "replies.json").write_text(json.dumps(replies, indent=1) + "\n")


def write_photo(path: Path, seed: int) -> Path:
    """Write coloured patches on a gradient."""
    rng = np.random.default_rng(seed)
    pixels = np.linspace(40, 200, 80, dtype=np.uint8)[None, :, None].repeat(60, 0).repeat(3, 2)
    for _ in range(5):
        top, left = rng.integers(0, 44), rng.integers(0, 60)
        pixels[top : top + 16, left : left + 20] = rng.integers(0, 256, 3)
    Image.fromarray(pixels).save(path, optimize=True)
    return path


def make_package(folder: Path, task: str, seed: int) -> None:
    """Write one model folder."""
    name = DETECTORS.get(task, CLASSIFIER)
    options: dict[str, Any] = {}
    preprocess: ResizeCrop | ResizeFit = ResizeCrop(72, CROP)
    size = CROP, CROP
    if task in DETECTORS:
        size, preprocess = CANVAS, ResizeFit(*CANVAS)
        planned = network_options(catalog.resolve(name), TYPICAL, CANVAS)
        options = planned | {key: value for key, value in NARROW.items() if key in planned}
        options = json.loads(json.dumps(options))
    torch.manual_seed(seed)
    network = build(catalog.resolve(name), len(LABELS), None, size, options)
    thin_out(network, seed)
    manifest = Manifest(
        task=task,
        labels=LABELS,
        model_name=name,
        preprocess=preprocess,
        weights=WeightsInfo("random", "none"),
        data=DataInfo("0" * 64, 24, 6),
        outputs=list(network.output_names),
        settings={"box_score_threshold": 0.02} if task in DETECTORS else {},
        network=options,
    )
    write_package(folder, network, manifest)


def thin_out(network: torch.nn.Module, seed: int) -> None:
    """Leave a tenth of the weights, all of one size in a layer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim < 2:
                continue
            size = 1.6 / math.sqrt(NONZERO_FRAC * parameter[0].numel())
            drawn = torch.rand(parameter.shape, generator=generator)
            signs = (drawn < NONZERO_FRAC / 2).float() - (drawn > 1 - NONZERO_FRAC / 2).float()
            parameter.copy_(size * signs)


def answers(folder: Path, task: str, photos: list[Path]) -> dict[str, Any]:
    """Return what the package says of the photos."""
    model = api.load(folder)
    explained = []
    for parameters in EXPLAINED.get(task, []):
        found = [
            {"label": each.label, "probability": each.probability, "map": coarse(each.map)}
            for each in model.explain(photos[:1], **parameters)[0]
        ]
        explained.append({"parameters": parameters, "explanations": found})
    return {"score": model.score(photos), "explain": explained}


def coarse(values: np.ndarray) -> list[list[float]]:
    """Return the mean of a map in 4 x 4 cells, in units of its largest value."""
    flat = np.asarray(values, np.float64).mean(axis=0)
    flat /= np.abs(flat).max() or 1
    rows = [np.array_split(band, 4, axis=1) for band in np.array_split(flat, 4, axis=0)]
    return [[float(cell.mean()) for cell in row] for row in rows]


def pack(folder: Path, path: Path) -> None:
    """Write one archive: the scoring code, the same in all four, is in it once."""
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    with tarfile.open(path, "w:xz", preset=9) as archive:
        for file in sorted(folder.rglob("*"), key=lambda file: (file.suffix, file.name, str(file))):
            if file.is_file() and "__pycache__" not in file.parts:
                entry = tarfile.TarInfo(str(file.relative_to(folder)))
                content = file.read_bytes()
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
