"""Classification jobs that take a second, and what they decided."""

import json
from pathlib import Path
from typing import Any


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


def decisions(folder: Path, what: str) -> list[dict[str, Any]]:
    """Return the choices of one name that a run wrote down, with their inputs."""
    lines = (folder / "decisions.jsonl").read_text().splitlines()
    return [made for made in map(json.loads, lines) if made["decision"] == what]
