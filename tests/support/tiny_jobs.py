"""Jobs that take a second, and their decisions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def tiny_job(photos: Path, num_trials: int, **keys: Any) -> dict[str, Any]:
    """Return a job for a tiny network of random weights; `keys` are added or replace others."""
    return {
        "task": "image_classification",
        "training_data": str(photos),
        "limits": {"max_trials": num_trials},
        "weights": "random",
        "device": "cpu",
        "training_parameters": {
            "model_name": "test_resnet",
            "validation_crop_size": 32,
            "training_batch_size": 8,
            "number_of_epochs": 2,
        },
        **keys,
    }


def tiny_detection_job(folder: Path, num_images: int, shift: int, **keys: Any) -> dict[str, Any]:
    """Write images with a square, each `shift` pixels further right; return a detector's job."""
    rows = []
    for i in range(num_images):
        pixels = np.full((48, 64, 3), 100, np.uint8)
        pixels[10:30, shift * i : shift * i + 20] = (230, 30, 30)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        box = {"topX": shift * i / 64, "topY": 10 / 48, "bottomX": (shift * i + 20) / 64}
        label = {"label": "square", **box, "bottomY": 30 / 48}
        rows.append(json.dumps({"image_url": f"{i}.png", "label": [label]}))
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    return {
        "task": "image_object_detection",
        "training_data": str(folder / "rows.jsonl"),
        "weights": "random",
        "device": "cpu",
        "training_parameters": {
            "model_name": "fcos_test_resnet.r160_in1k_fpn",
            "image_size": 64,
            "training_batch_size": 4,
            "number_of_epochs": 1,
        },
        **keys,
    }


def decisions(folder: Path, what: str) -> list[dict[str, Any]]:
    """Return the choices of one name that a run wrote down, with their inputs."""
    lines = (folder / "decisions.jsonl").read_text().splitlines()
    return [made for made in map(json.loads, lines) if made["decision"] == what]
