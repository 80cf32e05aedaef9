"""Inputs that `scripts/same` gives to both commits: jobs that train, and what users get wrong."""

import ast
import base64
import json
from pathlib import Path
from typing import Any, Final

TASKS: Final = (
    "image_classification",
    "image_classification_multilabel",
    "image_object_detection",
    "image_instance_segmentation",
)
NUM_PHOTOS: Final = dict(zip(TASKS, (24, 24, 10, 10), strict=True))
NUM_TEST_PHOTOS: Final = 6
# Each of a family of its own, as small as the catalog has them.
_MODELS: Final = dict(
    zip(
        TASKS,
        ("test_resnet", "test_efficientnet", "deimv2_atto", "maskrcnn_tf_efficientnet_lite0_fpn"),
        strict=True,
    )
)
_CLASSIFIER: Final = {
    "validation_crop_size": 32,
    "validation_resize_size": 36,
    "training_batch_size": 8,
}
# A detector that has hardly been trained is sure of nothing: 0 keeps boxes in its replies.
_DETECTOR: Final = {"image_size": 64, "training_batch_size": 2, "box_score_threshold": 0}


def task_job(task: str, data: Path) -> dict[str, Any]:
    """Return one trial of a task; bounded by epochs, so that it is the same whenever it runs."""
    finds_objects = task in TASKS[2:]
    parameters = {
        "model_name": _MODELS[task],
        "number_of_epochs": 1 if finds_objects else 2,
        **(_DETECTOR if finds_objects else _CLASSIFIER),
    }
    return _job(task, data, parameters, limits={"max_trials": 1})


def sweep_job(data: Path) -> dict[str, Any]:
    """Return a sweep of three classifiers with early termination."""
    space = {
        "model_name": {"type": "choice", "values": ["test_resnet", "test_efficientnet"]},
        "learning_rate": {"type": "loguniform", "min_value": -9, "max_value": -1},
    }
    stop = {"type": "bandit", "slack_factor": 0.05, "delay_evaluation": 1}
    return _job(
        TASKS[0],
        data,
        {**_CLASSIFIER, "number_of_epochs": 3, "early_stopping": False},
        limits={"max_trials": 3},
        sweep={"sampling_algorithm": "random", "early_termination": stop},
        search_space=[space],
    )


def automode_job(data: Path) -> dict[str, Any]:
    """Return an AutoMode of a tiny network."""
    parameters = {**_CLASSIFIER, "model_name": "test_resnet", "number_of_epochs": 1}
    return _job(TASKS[0], data, parameters, limits={"max_trials": 2})


def _job(task: str, data: Path, parameters: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {
        "task": task,
        "training_data": str(data / task / "annotations.jsonl"),
        "test_data": str(data / f"{task}-test" / "annotations.jsonl"),
        "weights": "random",
        "device": "cpu",
        "seed": 3,
        "training_parameters": parameters,
        **keys,
    }


def literals(tree: Path, file_name: str) -> dict[str, Any]:
    """Return what a test module of a commit assigns to names in capitals, without importing it."""
    (path,) = tree.glob(f"tests/**/{file_name}")
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and target.id.isupper() and value is not None:
            try:
                found[target.id] = ast.literal_eval(value)
            except ValueError:
                continue
    return found


def row_files(tree: Path) -> dict[str, tuple[str, str]]:
    """Return files of rows, by name: the task they are read as, and their text."""
    known = literals(tree, "test_row_samples.py")
    files = {}
    for task in TASKS:
        (sample,) = tree.glob(f"tests/**/samples/{task}.jsonl")
        files[f"published {task}"] = task, sample.read_text(encoding="utf-8")
        row = {
            "image_url": known["URL"],
            "image_details": known["TEMPLATE_DETAILS"],
            "label": known["TEMPLATES"][task],
        }
        files[f"template {task}"] = task, json.dumps(row) + "\n"
        files[f"template {task} as printed"] = task, json.dumps(row, indent=3) + "\n"
        files[f"wrong {task}"] = task, _wrong_rows(task)
    return files


def _wrong_rows(task: str) -> str:
    first: dict[str, Any] = {"image_url": "images/0000.jpg"}
    labels: list[Any] = [None, 7, "", " can ", True, {}, [], [[]], ["can", "can"], ["can", 3, ""]]
    box: dict[str, Any] = {
        "label": "can",
        "topX": 0.1,
        "topY": 0.2,
        "bottomX": 0.5,
        "bottomY": 0.6,
        "isCrowd": 0,
    }
    outline: dict[str, Any] = {
        "label": "can",
        "isCrowd": 0,
        "polygon": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.6]],
    }
    changes = [
        {"topX": "0.1"},
        {"topX": None},
        {"topX": -0.002},
        {"topX": 12, "bottomX": 40},
        {"topX": 0.7},
        {"bottomY": "ymax/height"},
        {"isCrowd": "maybe"},
        {"isCrowd": "true"},
        {"label": ""},
        {"label": 5},
        {"extra": 1},
    ]
    labels += [[box | change] for change in changes]
    points: list[Any] = [
        [],
        [[0.1, 0.1]],
        [[0.1] * 5],
        [[0.1] * 6],
        [["x"] * 6],
        "RLE",
        [[2.0] * 6],
    ]
    labels += [[outline | {"polygon": polygon}] for polygon in points]
    lines = [json.dumps(first | {"label": label}) for label in labels]
    details: list[Any] = [
        {"format": "exe", "width": "w"},
        {"width": 0, "height": -1},
        [],
        {"width": "400px"},
    ]
    good: dict[str, Any] = {
        TASKS[0]: "can",
        TASKS[1]: ["can"],
        TASKS[2]: [box],
        TASKS[3]: [outline],
    }
    lines += [json.dumps(first | {"label": good[task], "image_details": d}) for d in details]
    urls = ["", None, 3, "../outside.jpg", "missing.jpg", "azureml://x", "ftp://a/b.jpg"]
    lines += [json.dumps({"image_url": url, "label": good[task]}) for url in urls]
    lines += [
        "",
        "{",
        "[]",
        "null",
        '{"image_url": "images/0000.jpg"}',
        '{"label": "can"}',
        "\ufeff{}",
    ]
    return "\n".join(lines) + "\n"


def job_files(tree: Path, data: Path) -> dict[str, str]:
    """Return job files, by name; most of them are wrong, each in several ways."""
    known = literals(tree, "test_azure_jobs.py")
    tasks = {"SDK_DETECTION": TASKS[2], "SDK_SEGMENTATION": TASKS[3], "SDK_MULTILABEL": TASKS[1]}
    files = {
        f"published {name}": known[name].replace("task: TASK", f"task: {task}")
        for name, task in tasks.items()
    }
    for name, job in _wrong_jobs(data).items():
        files[f"wrong {name}"] = json.dumps(job)
    return files | {"wrong yaml": "task: [", "wrong top": "- 1\n", "wrong empty": ""}


def _wrong_jobs(data: Path) -> dict[str, dict[str, Any]]:
    job = task_job(TASKS[0], data)
    tune = job["training_parameters"]
    rules = ("bandit", "truncation_selection", "never")
    return {
        "keys": job
        | {"trainnig_data": "x", "primary_metric": "mean", "seed": -1, "limits": {"m": 1}},
        "values": job | {"budget": "soon", "device": "tpu", "weights": "none.pt", "map": "x"},
        "task": {"task": "image_clasification", "training_data": "x"},
        "nothing": {},
        "model": job | {"training_parameters": {"model_name": "resnet5O"}},
        "licence": job | {"training_parameters": {"model_name": "yolov5"}, "weights": None},
        "parameters": job
        | {"training_parameters": tune | {"learning_rate": -1, "optimizer": "sdg", "epochs": 3}},
        "other task's parameters": job
        | {"training_parameters": tune | {"tile_grid_size": "3by2", "nms_iou_threshold": 2}},
        "space": job
        | {
            "search_space": [{"learning_rate": {"type": "uniform", "min_value": 2, "max_value": 1}}]
        },
        "drawn": job
        | {"search_space": [{"learning_rate": "unifrom(1, 2)", "number_of_epochs": []}]},
        **{
            f"termination {rule}": job
            | {"sweep": {"sampling_algorithm": "grid", "early_termination": {"type": rule}}}
            | {"search_space": [{"learning_rate": "uniform(0.1, 0.2)"}]}
            for rule in rules
        },
        "data": job | {"training_data": "nowhere.jsonl", "validation_data": "also/nowhere"},
    }


COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "no such command": ("tarin",),
    "no such option": ("train", "--dta", "x"),
    "no value": ("train", "--seed", "many"),
    "no value, as JSON": ("train", "--seed", "many", "--json"),
    "no arguments": ("score",),
    "train nothing": ("train", "--json"),
    "set": ("train", "--task", TASKS[0], "--data", "x", "--set", "a", "--set", "b.c=1"),
    "score nowhere": ("score", "nowhere", "a.jpg", "--json"),
    "score no model": ("score", ".", "a.jpg"),
    "serve nowhere": ("serve", "nowhere"),
    "serve port": ("serve", ".", "--port", "99999"),
    "explain nothing": ("explain", "nowhere"),
    "evaluate nowhere": ("evaluate", "nowhere", "--data", "x"),
    "check nowhere": ("data", "check", "nowhere", "--json"),
    "check empty": ("data", "check", "."),
    "convert to": ("data", "convert", "nowhere", "-o", "x", "--to", "coco"),
    "demo task": ("demo", "--task", "x", "--render", "x"),
    "runs show": ("runs", "show", "nowhere"),
    "runs resume": ("runs", "resume", "nowhere", "--json"),
    "runs stop": ("runs", "stop", "nowhere"),
    "runs list": ("runs", "list", "nowhere", "--json"),
    "job init": ("job", "init", "--data", "nowhere", "-o", "-"),
}


def image_row(photo: bytes, **more: Any) -> str:
    """Return a row of a request: an image alone, or with what else is asked of it."""
    text = base64.encodebytes(photo).decode()
    return json.dumps({"image_base64": text, **more}) if more else text


def request(*rows: Any) -> bytes:
    """Return the body of a request."""
    return json.dumps({"input_data": {"columns": ["image"], "data": list(rows)}}).encode()


def wrong_requests(photo: bytes) -> dict[str, tuple[str, str, bytes, dict[str, str]]]:
    """Return requests, by name, as method, path, body and headers."""
    row, kind = image_row(photo), {"content-type": "application/json"}
    explained = image_row(photo, model_explainability=True, xai_parameters={"xai_algorithm": "x"})
    steps = image_row(
        photo,
        model_explainability=True,
        xai_parameters={"n_steps": 1, "target": "cup", "style": 3},
    )
    bodies = {
        "not JSON": b"{",
        "empty": b"",
        "a list": b"[]",
        "no data": b'{"input_data": {"columns": ["image"]}}',
        "other column": b'{"input_data": {"columns": ["photo"], "data": ["x"]}}',
        "no rows": request(),
        "no base64": request("***"),
        "no image": request(base64.b64encode(b"none").decode()),
        "half an image": request(image_row(photo[: len(photo) // 2]), row),
        "numbers": request(1, 2),
        "two columns": request([row, row]),
        "row JSON": request("{", row),
        "row keys": request('{"image": "x"}'),
        "nested": request([row]),
        "no algorithm": request(explained),
        "wrong parameters": request(steps),
    }
    found = {name: ("POST", "/score", body, kind) for name, body in bodies.items()}
    return found | {
        "no content type": ("POST", "/score", request(row), {"content-type": "text/plain"}),
        "GET score": ("GET", "/score", b"", {}),
        "DELETE score": ("DELETE", "/score", b"", {}),
        "OPTIONS score": ("OPTIONS", "/score", b"", {}),
        "no page": ("GET", "/none", b"", {}),
        "long id": ("GET", "/", b"", {"x-ms-request-id": "a" * 5000}),
    }
