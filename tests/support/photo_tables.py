"""MLTable folders of drawn photos, whose rows have the published form of each task."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from support.photos import write_photo

HEIGHT, WIDTH = 48, 64
SIDE = 20
COLORS = {"can": (220, 50, 40), "carton": (40, 190, 60)}


def write_table(folder: Path, labels: str, num_images: int) -> Path:
    """Write an MLTable folder: photos with a block of each class' color, or of one.

    Args:
        folder: Made when missing.
        labels: How its rows say what a photo shows: `class`, `classes`, `boxes` or `outlines`.
        num_images: Photos.
    """
    rows = []
    for i in range(num_images):
        rng = np.random.default_rng([num_images, i])
        image = rng.integers(90, 160, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        shown = list(COLORS)[i % 2 :][:1] if labels == "class" or i % 3 else list(COLORS)
        objects = []
        for name in shown:
            # One in each half: they never cover each other.
            left = int(rng.integers(2, 8)) + WIDTH // 2 * list(COLORS).index(name)
            top = int(rng.integers(2, 22))
            cv2.rectangle(image, (left, top), (left + SIDE - 1, top + SIDE - 1), COLORS[name], -1)
            right, bottom = left + SIDE, top + SIDE
            objects.append((name, left / WIDTH, top / HEIGHT, right / WIDTH, bottom / HEIGHT))
        write_photo(folder / f"{i}.png", image)
        details = {"format": "png", "width": f"{WIDTH}px", "height": f"{HEIGHT}px"}
        rows.append(
            {"image_url": f"{i}.png", "image_details": details, "label": label(labels, objects)}
        )
    (folder / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "MLTable").write_text(
        "paths:\n- file: ./annotations.jsonl\n"
        "transformations:\n"
        "- read_json_lines: {encoding: utf8, invalid_lines: error, include_path_column: false}\n"
        "- convert_column_types: [{columns: image_url, column_type: stream_info}]\n"
    )
    return folder


def label(labels: str, objects: Sequence[tuple[str, float, float, float, float]]) -> Any:
    """Return what a row says of an image, in the published form of its task."""
    if labels == "class":
        return objects[0][0]
    if labels == "classes":
        return [name for name, *_ in objects]
    if labels == "boxes":
        return [
            {"label": name, "topX": x0, "topY": y0, "bottomX": x1, "bottomY": y1, "isCrowd": 0}
            for name, x0, y0, x1, y1 in objects
        ]
    return [
        {"label": name, "isCrowd": 0, "polygon": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
        for name, x0, y0, x1, y1 in objects
    ]
