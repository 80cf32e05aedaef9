"""`score --draw` and `evaluate --draw`, with a detector that always finds the same two objects."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from onnx import TensorProto, helper, numpy_helper

from autofocus.cli.evaluate import evaluate
from autofocus.cli.score import score
from autofocus.manifest import ResizeFit
from autofocus.pictures.palette import INK, class_colours
from autofocus.tasks.detection import ObjectDetection
from support.onnx_folder import write_onnx_folder

Capture = pytest.CaptureFixture[bytes]
LABELS = ["cup", "plate"]
# The last is below the threshold of the endpoint.
FOUND = [
    ([0.1, 0.1, 0.4, 0.4], 0.9, 0),
    ([0.5, 0.5, 0.9, 0.9], 0.8, 1),
    ([0.0, 0.5, 0.4, 0.9], 0.1, 1),
]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    constants = {
        "boxes": np.array([[box for box, _, _ in FOUND]], np.float32),
        "scores": np.array([[score for _, score, _ in FOUND]], np.float32),
        "classes": np.array([[label for _, _, label in FOUND]], np.int64),
    }
    nodes, outputs, stored = [], [], []
    for name, value in constants.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        # The constant once an image: expanded by [n, 1, …].
        nodes.append(helper.make_node("Expand", [f"one_{name}", f"shape_{name}"], [name]))
        nodes.append(helper.make_node("Concat", ["n", f"rest_{name}"], [f"shape_{name}"], axis=0))
        stored.append(numpy_helper.from_array(value, f"one_{name}"))
        stored.append(numpy_helper.from_array(np.array(value.shape[1:], np.int64), f"rest_{name}"))
        outputs.append(helper.make_tensor_value_info(name, kind, ["n", *value.shape[1:]]))
    first = helper.make_node("Shape", ["input1"], ["n"], start=0, end=1)
    image = helper.make_tensor_value_info("input1", TensorProto.FLOAT, ["n", 3, 64, 64])
    ordered = sorted(nodes, key=lambda node: node.op_type)
    graph = helper.make_graph([first, *ordered], "constant", [image], outputs, stored)
    return write_onnx_folder(
        tmp_path_factory.mktemp("models") / "detector",
        graph,
        task=ObjectDetection.name,
        labels=LABELS,
        preprocess=ResizeFit(64, 64, keep_aspect=False),
        outputs=list(constants),
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Grey photos; two of one name in two folders."""
    folder = tmp_path / "photos"
    for name in ("a.png", "b.png", "more/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        grey = np.full((600, 800, 3), 128, np.uint8)
        assert cv2.imwrite(str(folder / name), grey)
    return folder


def read(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def nearly(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return where a picture has a colour, as far as JPEG keeps it."""
    return (np.abs(picture.astype(int) - colour) < 40).all(axis=2)


def test_score_draws_every_image_under_a_name_of_its_own(
    detector: Path, photos: Path, tmp_path: Path, capsysbinary: Capture
) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    score(detector, [str(photos)], draw=tmp_path / "out" / "drawn", as_json=False)
    drawn = tmp_path / "out" / "drawn"
    assert sorted(path.name for path in drawn.iterdir()) == ["a-2.jpg", "a.jpg", "b.jpg"]
    picture = read(drawn / "a.jpg")
    assert picture.shape == (600, 800, 3)
    for (left, top, _, _), label in (([80, 60, 320, 240], "cup"), ([400, 300, 720, 540], "plate")):
        assert nearly(
            picture[top : top + 1, left + 60 : left + 200], class_colours(LABELS)[label]
        ).all()
    assert {path: path.read_bytes() for path in photos.rglob("*.png")} == before
    out, err = capsysbinary.readouterr()
    assert f"{photos / 'b.png'}: 2 objects: cup 0.90 · plate 0.80" in out.decode()
    assert f"3 drawings in {drawn}/" in err.decode()


def test_drawing_does_not_change_the_document(
    detector: Path, photos: Path, tmp_path: Path, capsysbinary: Capture
) -> None:
    score(detector, [str(photos)], draw=None, as_json=True)
    plain = capsysbinary.readouterr().out
    score(detector, [str(photos)], draw=tmp_path / "drawn", as_json=True)
    assert capsysbinary.readouterr().out == plain
    assert len(json.loads(plain)) == 3


def test_unreadable_images_are_not_drawn(
    detector: Path, photos: Path, tmp_path: Path, capsysbinary: Capture
) -> None:
    (photos / "broken.png").write_bytes(b"text")
    score(detector, [str(photos / "broken.png"), str(photos / "b.png")], draw=tmp_path / "drawn")
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["b.jpg"]
    assert b"1 drawing in" in capsysbinary.readouterr().err


def test_folder_of_the_images_is_refused(
    detector: Path, photos: Path, capsysbinary: Capture
) -> None:
    before = sorted(photos.rglob("*"))
    with pytest.raises(typer.Exit) as caught:
        score(detector, [str(photos)], draw=photos / ".." / "photos" / "more", as_json=False)
    assert caught.value.exit_code == 2
    assert b"a.png. Choose another folder" in capsysbinary.readouterr().err
    assert sorted(photos.rglob("*")) == before


def test_classes_are_drawn_below(
    tiny_model: Path, photos: Path, tmp_path: Path, capsysbinary: Capture
) -> None:
    score(tiny_model, [str(photos / "b.png")], draw=tmp_path / "drawn", as_json=False)
    picture = read(tmp_path / "drawn" / "b.jpg")
    assert picture.shape[0] > 600
    assert nearly(picture[:600], (128, 128, 128)).all()


def rows(photos: Path) -> Path:
    def box(edges: list[float], label: str) -> dict[str, Any]:
        names = ("topX", "topY", "bottomX", "bottomY")
        return {"label": label, **dict(zip(names, edges, strict=True)), "isCrowd": 0}

    labelled = {
        "a.png": [box([0.1, 0.1, 0.4, 0.4], "cup"), box([0.6, 0.1, 0.9, 0.3], "plate")],
        "b.png": [box([0.1, 0.1, 0.4, 0.4], "cup"), box([0.5, 0.5, 0.9, 0.9], "plate")],
        "more/a.png": [],
    }
    path = photos / "rows.jsonl"
    lines = [json.dumps({"image_url": url, "label": label}) for url, label in labelled.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_evaluate_draws_what_was_missed_and_what_was_wrong(
    detector: Path, photos: Path, tmp_path: Path, capsysbinary: Capture
) -> None:
    drawn = tmp_path / "drawn"
    evaluate(detector, str(rows(photos)), draw=drawn, as_json=True)
    out, err = capsysbinary.readouterr()
    result = json.loads(out)
    assert result["num_images"] == 3
    assert b"3 drawings in" in err
    assert sorted(path.name for path in drawn.iterdir()) == ["a-2.jpg", "a.jpg", "b.jpg"]
    missed, right = read(drawn / "a.jpg"), read(drawn / "b.jpg")
    # A black band above the plate that was not found, none where all was found.
    assert nearly(missed[35:58, 480:560], INK).mean() > 0.4
    assert not nearly(right[35:58, 480:560], INK).any()
    # What only counts in the metrics is not drawn.
    assert not nearly(right[:600, :300], class_colours(LABELS)["plate"]).any()


def test_evaluate_without_drawing_measures_the_same(
    detector: Path, photos: Path, tmp_path: Path, capsysbinary: Capture
) -> None:
    source = str(rows(photos))
    evaluate(detector, source, draw=tmp_path / "drawn", as_json=True)
    with_drawings = json.loads(capsysbinary.readouterr().out)
    evaluate(detector, source, as_json=True)
    assert json.loads(capsysbinary.readouterr().out) == with_drawings
    assert with_drawings["metrics"]["mean_average_precision"] > 0


def test_evaluate_draws_whole_image_classes_beside_the_labels(
    tiny_model: Path, photos: Path, tmp_path: Path, capsysbinary: Capture
) -> None:
    score(tiny_model, [str(photos / "b.png")], as_json=True)
    label = json.loads(capsysbinary.readouterr().out)[0]["labels"][0]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"image_url": "b.png", "label": label}) + "\n")
    shutil.copyfile(photos / "b.png", tmp_path / "b.png")
    evaluate(tiny_model, str(path), draw=tmp_path / "drawn", as_json=True)
    below = read(tmp_path / "drawn" / "b.jpg")[600:]
    assert nearly(below, (255, 255, 255)).mean() > 0.05


def test_evaluate_measures_on_the_test_split_and_says_so(
    detector: Path, photos: Path, capsysbinary: Capture
) -> None:
    lines = rows(photos).read_text().splitlines()
    (photos / "rows.jsonl").rename(photos / "train.jsonl")
    (photos / "test.jsonl").write_text(lines[0] + "\n")
    evaluate(detector, str(photos), as_json=True)
    out, err = capsysbinary.readouterr()
    result = json.loads(out)
    assert (result["split"], result["num_images"]) == ("test", 1)
    assert result["data"] == str(photos / "test.jsonl")
    assert f"measuring on {photos / 'test.jsonl'} (test split)".encode() in err
    evaluate(detector, str(photos), split="train", as_json=True)
    result = json.loads(capsysbinary.readouterr().out)
    assert (result["split"], result["num_images"]) == ("train", 3)


def test_evaluate_proposes_no_flag_that_it_does_not_have(
    tiny_multilabel_model: Path, photos: Path, capsysbinary: Capture
) -> None:
    (photos / "rows.jsonl").write_text(json.dumps({"image_url": "a.png", "label": "can"}))
    with pytest.raises(typer.Exit):
        evaluate(tiny_multilabel_model, str(photos / "rows.jsonl"))
    said = capsysbinary.readouterr().err
    assert b"Rows of another task? 'autofocus data check' without --task says which." in said
