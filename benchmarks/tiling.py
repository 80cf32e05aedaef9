"""Small objects in large images: gain of tiles, and agreement of everything that scores.

    python benchmarks/tiling.py FOLDER              # a detector trained on BCCD (run or model)

BCCD's 72 test photos are composed, three by three, into 8 images of 1920 x 1440, their boxes too.
What a whole one looks like to the network is a third of what it was trained on; a tile of a 3 x 3
grid is near to it. Copies of the package differ in the manifest's `tiling` alone. Both return up
to 500 objects an image: a composite has more than the usual cap of 100.

Then the replies for the same images from torch, ONNX Runtime and `autofocus serve` are compared.
`difference` is the task's own, which forgives what rounding may decide (an object at the edge of
a threshold or of suppression); `unpaired` counts those, too: objects of one reply that the other
lacks.
"""

import argparse
import base64
import http.client
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from datasets import SHARED, Row, write_rows
from PIL import Image
from serve_peers import open_server

from autofocus.data.sources.read import Data, read_data
from autofocus.manifest import MANIFEST_NAME, Tiling, encode_manifest, read_manifest
from autofocus.scoring.backends.torch import TorchBackend, load_network
from autofocus.scoring.evaluate import evaluate_model
from autofocus.scoring.model_path import resolve_model
from autofocus.scoring.scorer import Scorer
from autofocus.tasks.responses import match_objects

SIDE = 3
TILING = Tiling(SIDE, SIDE, 0.25)
MAX_OBJECTS = 500
TOLERANCE = 1e-3
TEST_PHOTOS = SHARED / "bccd-voc" / "ImageSets" / "Main" / "test.txt"

Reply = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="run or model folder")
    model = resolve_model(parser.parse_args().model)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        scorer = Scorer.load(model)
        photos = read_data(TEST_PHOTOS, scorer.task.record_type)
        composites = compose(photos, Path(work))
        arms = {
            "whole": copy_package(model, Path(work) / "whole", None),
            f"whole + {TILING.cols} x {TILING.rows} tiles": copy_package(
                model, Path(work) / "tiled", TILING
            ),
        }
        print(f"{scorer.manifest.model_name}; {count(photos)}; {count(composites)}\n")
        show_quality(model, photos, composites, arms)
        agree = show_agreement(composites, arms)
    print(f"\n{time.monotonic() - started:.0f} s")
    if not agree:
        raise SystemExit(f"replies differ by more than {TOLERANCE}")


def compose(photos: Data[Any], folder: Path) -> Data[Any]:
    """Return the photos three by three, as rows of their own, without the remainder."""
    rows: list[Row] = []
    step = SIDE * SIDE
    for start in range(0, len(photos.records) - step + 1, step):
        images = [np.array(Image.open(p).convert("RGB")) for p in photos.locations[start:][:step]]
        assert len({image.shape for image in images}) == 1, "photos must be of one size"
        bands = [np.concatenate(images[i : i + SIDE], axis=1) for i in range(0, step, SIDE)]
        path = folder / f"composite_{start // step}.png"
        # Losslessly: the loss of a second JPEG is not to be measured.
        Image.fromarray(np.concatenate(bands)).save(path, compress_level=1)
        boxes = [
            box
            for i, record in enumerate(photos.records[start : start + step])
            for box in placed(record, *divmod(i, SIDE))
        ]
        rows.append({"image_url": str(path), "label": boxes})
    return read_data(write_rows(folder / "composites.jsonl", rows), type(photos.records[0]))


def placed(record: Any, row: int, column: int) -> list[dict[str, Any]]:
    """Return the boxes of a photo within its composite."""
    return [
        {
            "label": box.label,
            "topX": (column + box.top_x) / SIDE,
            "topY": (row + box.top_y) / SIDE,
            "bottomX": (column + box.bottom_x) / SIDE,
            "bottomY": (row + box.bottom_y) / SIDE,
            "isCrowd": box.is_crowd,
        }
        for box in record.label
    ]


def copy_package(model: Path, folder: Path, tiling: Tiling | None) -> Path:
    shutil.copytree(model, folder)
    manifest = read_manifest(model)
    settings = {**manifest.settings, "box_detections_per_image": MAX_OBJECTS}
    manifest = msgspec.structs.replace(manifest, tiling=tiling, settings=settings)
    (folder / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    return folder


def count(data: Data[Any]) -> str:
    numbers = [len(record.label) for record in data.records]
    return f"{len(numbers)} images of {min(numbers)} to {max(numbers)} objects, {sum(numbers)} all"


def show_quality(
    model: Path, photos: Data[Any], composites: Data[Any], arms: dict[str, Path]
) -> None:
    labels = read_manifest(model).labels
    print(f"| seen | mAP@.5 | {' | '.join(labels)} | precision | recall |")
    print("|---|---|" + "---|" * len(labels) + "---|---|")
    # The package as it came, on the photos as they are: what tiles could reach at best.
    for name, folder, data in (
        ("the photos one by one", model, photos),
        *((f"composites, {name}", folder, composites) for name, folder in arms.items()),
    ):
        metrics = evaluate_model(folder, data)["metrics"]
        of_labels = {row["class_name"]: row for row in metrics["per_label_metrics"]}
        figures = [
            metrics["mean_average_precision"],
            *(of_labels[label]["average_precision"] for label in labels),
            metrics["precision"],
            metrics["recall"],
        ]
        print(f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} |", flush=True)


def show_agreement(composites: Data[Any], arms: dict[str, Path]) -> bool:
    """Print the differences of responses; return whether all are within the tolerance."""
    images = [Path(location).read_bytes() for location in composites.locations]
    largest = 0.0
    print("\n| composites | scored by | objects | difference | unpaired | CPU ms an image |")
    print("|---|---|---|---|---|---|")
    for name, folder in arms.items():
        manifest = read_manifest(folder)
        onnx = Scorer.load(folder)
        torch_scorer = Scorer(
            manifest, TorchBackend(load_network(folder, manifest), manifest.outputs)
        )
        expected, onnx_ms = timed(onnx, images)
        by_torch, torch_ms = timed(torch_scorer, images)
        for backend, replies, milliseconds in (
            ("ONNX Runtime", expected, f"{onnx_ms:.0f}"),
            ("torch", by_torch, f"{torch_ms:.0f}"),
            ("autofocus serve", served(folder, images), ""),
        ):
            pairs = list(zip(expected, replies, strict=True))
            difference = max(onnx.task.wire_difference(left, right) for left, right in pairs)
            largest = max(largest, difference)
            num = sum(len(reply["boxes"]) for reply in replies)
            alone = sum(unpaired(left["boxes"], right["boxes"]) for left, right in pairs)
            cells = (name, backend, num, f"{difference:.1e}", alone, milliseconds)
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return largest <= TOLERANCE


def timed(scorer: Scorer, images: Sequence[bytes]) -> tuple[list[Reply], float]:
    """Return the responses and the CPU milliseconds of one."""
    started = time.process_time()
    replies = scorer.score(images)
    return replies, (time.process_time() - started) * 1e3 / len(images)


def served(folder: Path, images: Sequence[bytes]) -> list[Reply]:
    """Return a server's responses, one image a request."""
    server, place = open_server(folder, "--workers", "1", "--no-explain-warm-up")
    try:
        connection = http.client.HTTPConnection(place, timeout=60)
        return [ask(connection, image) for image in images]
    finally:
        server.terminate()
        server.wait()


def ask(connection: http.client.HTTPConnection, image: bytes) -> Reply:
    data = [base64.b64encode(image).decode()]
    body = json.dumps({"input_data": {"columns": ["image"], "data": data}})
    connection.request("POST", "/score", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {content[:200]!r}")
    reply: list[Reply] = json.loads(content)
    return reply[0]


def unpaired(left: Sequence[Reply], right: Sequence[Reply]) -> int:
    return len(left) + len(right) - 2 * len(match_objects(left, right))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
