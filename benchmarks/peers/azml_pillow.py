"""Entry script of azureml-inference-server-http with Pillow and ONNX Runtime alone.

As somebody writes it who has the model's file and no library of ours: a classifier, or a detector
whose candidates still want thresholds and suppression.
"""

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

loaded: dict[str, Any] = {}


def init() -> None:
    folder = Path(os.environ["AZUREML_MODEL_DIR"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    loaded["session"] = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    loaded["manifest"] = json.loads((folder / "manifest.json").read_text())


def run(raw_data: str) -> list[dict[str, Any]]:
    return [score(base64.b64decode(text)) for text in json.loads(raw_data)["input_data"]["data"]]


def score(data: bytes) -> dict[str, Any]:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    manifest = loaded["manifest"]
    spec = manifest["preprocess"]
    is_classifier = spec["type"] == "resize_crop"
    pixels = cropped(image, spec) if is_classifier else fitted(image, spec)
    mean, std = (np.array(spec[key], np.float32) for key in ("mean", "std"))
    batch = ((pixels / np.float32(255) - mean) / std).transpose(2, 0, 1)[None]
    outputs = loaded["session"].run(None, {loaded["session"].get_inputs()[0].name: batch})
    if is_classifier:
        exponents = np.exp(outputs[0][0] - outputs[0][0].max())
        probabilities = exponents / exponents.sum()
        return {"labels": manifest["labels"], "probs": probabilities.tolist()}
    found = dict(zip(manifest["outputs"], outputs, strict=True))
    width, height = image.size
    scale = min(spec["width"] / width, spec["height"] / height)
    placed = spec["width"] / (width * scale), spec["height"] / (height * scale)
    boxes = np.clip(found["boxes"][0] * np.array([*placed, *placed]), 0, 1)
    return {"boxes": objects(boxes, found["scores"][0], found["classes"][0], manifest)}


def cropped(image: Image.Image, spec: dict[str, Any]) -> np.ndarray:
    """Return RGB float32 [crop, crop, 3]: the shorter side resized, then the middle."""
    scale = spec["resize_size"] / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    crop = spec["crop_size"]
    left, top = ((side - crop) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + crop, top + crop)), np.float32)


def fitted(image: Image.Image, spec: dict[str, Any]) -> np.ndarray:
    """Return RGB float32 [height, width, 3]: the whole image, its ratio kept, the rest mean."""
    scale = min(spec["width"] / image.width, spec["height"] / image.height)
    size = [round(side * scale) for side in image.size]
    canvas = np.empty((spec["height"], spec["width"], 3), np.float32)
    canvas[:] = np.array(spec["mean"]) * 255
    canvas[: size[1], : size[0]] = image.resize(size, Image.Resampling.BILINEAR)
    return canvas


def objects(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, manifest: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the boxes above the threshold that no better one of their class overlaps."""
    settings = manifest["settings"]
    found: list[dict[str, Any]] = []
    kept: list[int] = []
    for i in np.argsort(-scores):
        if scores[i] < settings["box_score_threshold"]:
            break
        rivals = [k for k in kept if classes[k] == classes[i]]
        if rivals and overlaps(boxes[i], boxes[rivals]).max() > settings["nms_iou_threshold"]:
            continue
        kept.append(i)
        corners = dict(zip(("topX", "topY", "bottomX", "bottomY"), boxes[i].tolist(), strict=True))
        label = manifest["labels"][classes[i]]
        found.append({"box": corners, "label": label, "score": float(scores[i])})
        if len(found) == settings["box_detections_per_image"]:
            break
    return found


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union of a box [4] with each of [m, 4]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return shared / np.maximum(areas - shared, 1e-9)
