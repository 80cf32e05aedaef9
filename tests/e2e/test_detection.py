"""Objects with the real command: from a COCO file with gaps in its ids to a served detector."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autofocus.api import load
from support.commands import run

SIZE = (48, 64)
# Gaps and no order: what counts is the name.
CATEGORIES = {90: "square", 7: "bar"}
COLORS = {"square": (230, 30, 30), "bar": (30, 60, 230)}
SETTINGS = (
    *("--set", "training_parameters.image_size=64"),
    *("--set", "training_parameters.number_of_epochs=24"),
    *("--set", "training_parameters.training_batch_size=4"),
    *("--set", "training_parameters.augmentations=none"),
    *("--set", "training_parameters.early_stopping=false"),
    *("--set", "training_parameters.evaluation_frequency=12"),
)


def draw(folder: Path, num_images: int) -> None:
    """Write a COCO folder: a square or a bar in each image, the last one empty."""
    rng = np.random.default_rng(3)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(num_images):
        pixels = rng.integers(90, 130, (*SIZE, 3), dtype=np.uint8)
        images.append({"id": 100 + 3 * i, "file_name": f"{i}.png", "width": 64, "height": 48})
        if i < num_images - 1:
            category = list(CATEGORIES)[i % 2]
            name = CATEGORIES[category]
            width, height = (18, 18) if name == "square" else (30, 10)
            left, top = int(rng.integers(2, 64 - width - 2)), int(rng.integers(2, 48 - height - 2))
            pixels[top : top + height, left : left + width] = COLORS[name]
            box = [left, top, width, height]
            annotations.append(
                {"id": i, "image_id": 100 + 3 * i, "category_id": category, "bbox": box}
                | {"area": width * height, "iscrowd": 0}
            )
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in CATEGORIES.items()],
    }
    (folder / "instances.json").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    draw(folder, 13)
    return folder


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("runs") / "run"
    done = run(
        *("train", "--task", "image_object_detection", "--data", scenes),
        *("--validation-data", scenes, "--output-dir", output, "--json", *SETTINGS),
    )
    assert done.returncode == 0, done.stderr
    assert "fcos_tf_efficientnet_lite0_fpn" in done.stderr
    assert "apache-2.0" in done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_it_learns_what_it_was_shown(trained: dict[str, Any]) -> None:
    assert trained["primary_metric"] == "mean_average_precision"
    assert trained["value"] > 0.8
    assert trained["metrics"]["mean_average_precision_50_95"] > 0.3
    (trial,) = trained["trials"]
    assert trial["status"] == "completed"
    assert trial["epochs"] == 24


def test_label_names_survive_from_the_source_to_the_reply(
    trained: dict[str, Any], scenes: Path
) -> None:
    scorer = load(trained["best_model"])
    assert scorer.labels == ["bar", "square"]
    for i, name in ((0, "square"), (1, "bar")):
        (reply,) = scorer.score([(scenes / "images" / f"{i}.png").read_bytes()])
        assert reply["boxes"][0]["label"] == name


def test_the_package_answers_as_the_weights_do(trained: dict[str, Any], scenes: Path) -> None:
    from autofocus.manifest import read_manifest
    from autofocus.scoring.backends.torch import TorchBackend, load_network
    from autofocus.scoring.scorer import Scorer

    folder = Path(trained["best_model"])
    manifest = read_manifest(folder)
    images = [path.read_bytes() for path in sorted((scenes / "images").iterdir())]
    torch_scorer = Scorer(manifest, TorchBackend(load_network(folder, manifest), manifest.outputs))
    for left, right in zip(
        Scorer.load(folder).score(images), torch_scorer.score(images), strict=True
    ):
        assert left["boxes"] or not right["boxes"]
        assert torch_scorer.task.wire_difference(left, right) < 1e-3


def test_evaluate_repeats_the_validation_figures(trained: dict[str, Any], scenes: Path) -> None:
    done = run("evaluate", trained["best_model"], "--data", scenes, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["num_images"] == 13
    for name in ("mean_average_precision", "precision", "recall"):
        assert document["metrics"][name] == pytest.approx(trained["metrics"][name], abs=1e-3)


def test_five_images_in_one_request_one_broken_one_empty(
    trained: dict[str, Any], scenes: Path, start_server: Callable[..., Any]
) -> None:
    server = start_server(Path(trained["best_model"]))
    photos = [(scenes / "images" / f"{i}.png").read_bytes() for i in (0, 1, 2)]
    photos = [photos[0], photos[1][:200], photos[2], (scenes / "images" / "12.png").read_bytes()]
    photos.append(photos[0])
    rows = [base64.encodebytes(photo).decode() for photo in photos]
    reply = server.score({"input_data": {"columns": ["image"], "data": rows}})
    assert reply.status == 200
    replies = reply.json
    assert [sorted(reply) for reply in replies] == [["boxes"], ["error"], *[["boxes"]] * 3]
    assert replies[3]["boxes"] == []
    assert replies[0] == replies[4]
    for box in replies[0]["boxes"]:
        assert set(box) == {"box", "label", "score"}
        assert set(box["box"]) == {"topX", "topY", "bottomX", "bottomY"}
        assert all(0 <= value <= 1 for value in box["box"].values())


def test_finished_run_is_not_trained_again(trained: dict[str, Any], scenes: Path) -> None:
    done = run(
        *("train", "--task", "image_object_detection", "--data", scenes),
        *("--validation-data", scenes, "--output-dir", trained["run"], "--json", *SETTINGS),
    )
    assert done.returncode == 0, done.stderr
    assert "finished before" in done.stderr
    assert json.loads(done.stdout) == trained
