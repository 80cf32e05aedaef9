"""Small sources: JSONL files of a few rows, and files for their images."""

import json
from pathlib import Path
from typing import Any

from autofocus.data.options import ReadOptions
from autofocus.data.sources.find import find_source, infer_tasks

BOX = {"label": "can", "topX": 0.1, "topY": 0.2, "bottomX": 0.5, "bottomY": 0.6}


def write(folder: Path, *rows: Any, name: str = "train.jsonl") -> Path:
    """Write rows as `folder/name`, and a file of one byte for each local image."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in rows:
        if isinstance(item, dict) and "image_url" in item and "://" not in item["image_url"]:
            (folder / item["image_url"]).write_bytes(b"x")
    path = folder / name
    path.write_text("".join(json.dumps(item) + "\n" for item in rows))
    return path


def row(url: str, label: Any) -> dict[str, Any]:
    """Return a row."""
    return {"image_url": url, "label": label}


def touch(root: Path, *names: str) -> None:
    """Write files of one byte."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def tasks(path: Path) -> list[str]:
    """Return the tasks that a source's rows fit."""
    return infer_tasks(find_source(path, ReadOptions()), ReadOptions())
