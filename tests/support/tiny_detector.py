"""A model folder whose detector is known: two boxes, each scored by how bright one place is."""

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from autofocus.manifest import Tiling
from support.onnx_folder import write_onnx_folder

LABELS: Final = ["lamp", "moon", "star"]
CANVAS: Final = (48, 64)
# Where boxes are, in fractions of the canvas, and what is looked at, in its pixels.
BOXES: Final = ((0.1, 0.1, 0.4, 0.5), (0.6, 0.5, 0.9, 0.9))
CLASSES: Final = (0, 2)
PLACES: Final = ((5, 6, 24, 26), (24, 38, 43, 58))  # top, left, bottom, right


def bright_photo(size: tuple[int, int] = (96, 128)) -> bytes:
    """Return an almost white image; size is (height, width)."""
    pixels = np.full((*size, 3), 235, np.uint8)
    pixels += np.random.default_rng(0).integers(0, 20, pixels.shape, dtype=np.uint8)
    done, data = cv2.imencode(".png", pixels)
    assert done
    return data.tobytes()


def write_tiny_detector(folder: Path, task: str, tiling: Tiling | None = None) -> Path:
    """Write the model folder."""
    from onnx import TensorProto, helper, numpy_helper

    from autofocus.manifest import ResizeFit

    constants: dict[str, Any] = {
        "axes": np.array([1, 2, 3]),
        "last": np.array([2]),
        "slope": np.array(5, np.float32),
        "offset": np.array(-2.5, np.float32),
        "zero": np.array(0, np.float32),
        "places": np.array([BOXES], np.float32),
        "kinds": np.array([CLASSES], np.float32),
        "spatial": np.array([2, 3]),
    }
    nodes = []
    for i, (top, left, bottom, right) in enumerate(PLACES):
        constants[f"starts{i}"], constants[f"ends{i}"] = (
            np.array([top, left]),
            np.array([bottom, right]),
        )
        slice_inputs = ["images", f"starts{i}", f"ends{i}", "spatial"]
        nodes += [
            helper.make_node("Slice", slice_inputs, [f"part{i}"]),
            helper.make_node("ReduceMean", [f"part{i}", "axes"], [f"mean{i}"]),
            helper.make_node("Flatten", [f"mean{i}"], [f"flat{i}"]),
        ]
    nodes += [
        helper.make_node("Concat", ["flat0", "flat1"], ["means"], axis=1),
        helper.make_node("Mul", ["means", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Mul", ["scores", "zero"], ["zeros"]),
        helper.make_node("Unsqueeze", ["zeros", "last"], ["columns"]),
        helper.make_node("Add", ["columns", "places"], ["boxes"]),
        helper.make_node("Add", ["zeros", "kinds"], ["named"]),
        helper.make_node("Cast", ["named"], ["classes"], to=TensorProto.INT64),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [info("images", TensorProto.FLOAT, ["n", 3, *CANVAS])],
        [
            info("boxes", TensorProto.FLOAT, ["n", 2, 4]),
            info("scores", TensorProto.FLOAT, ["n", 2]),
            info("classes", TensorProto.INT64, ["n", 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return write_onnx_folder(
        folder,
        graph,
        task=task,
        labels=LABELS,
        preprocess=ResizeFit(*CANVAS, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        outputs=["boxes", "scores", "classes"],
        tiling=tiling,
    )
