"""`autofocus explain`: files written, lines and documents printed, wrong input refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import typer

import autofocus
from autofocus.cli import explain as command
from autofocus.cli.explain import explain
from autofocus.errors import ImageError, InputError, RequestError
from autofocus.explain.algorithms import names_of
from autofocus.manifest import MANIFEST_NAME, encode_manifest, read_manifest
from autofocus.tasks.detection import ObjectDetection
from support.commands import run
from support.tiny_detector import bright_photo, write_tiny_detector

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def photos(tmp_path: Path, make_photo: Any) -> Path:
    for name in ("a/1.jpg", "b/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(make_photo(len(name)))
    return tmp_path


def refused(*arguments: Any, **options: Any) -> int:
    with pytest.raises(typer.Exit) as caught:
        explain(*arguments, **options)
    return caught.value.exit_code


def test_a_picture_and_its_numbers_an_image(
    model_folder: Path, photos: Path, capsys: Capture
) -> None:
    images = [str(photos / "a"), str(photos / "b" / "1.jpg"), str(photos / "missing.jpg")]
    out = photos / "out"
    explain(model_folder, images, algorithm="guided_backprop", output=out, npy=True)
    printed, noted = capsys.readouterr()
    assert noted.splitlines()[0] == f"Explaining 3 images by guided_backprop into {out}/"
    assert noted.splitlines()[-1] == "1 of 3 images could not be read"
    lines = printed.splitlines()
    assert len(lines) == 3
    assert lines[2].endswith("missing.jpg: error: No such file.")
    # Two photos of one name in two folders do not write over each other.
    stems = sorted(path.name.partition(".")[0] for path in out.glob("*.png"))
    assert stems == ["1", "1-2"]
    for path in out.glob("*.png"):
        assert cv2.imread(str(path)) is not None
        numbers = np.load(path.with_suffix(".npy"))
        assert (numbers.shape, numbers.dtype) == ((3, 64, 64), np.float32)


def test_json_is_one_document(model_folder: Path, photos: Path, capsys: Capture) -> None:
    explain(
        model_folder,
        [str(photos / "a")],
        algorithm="integrated_gradients",
        n_steps=4,
        target="green",
        style="heatmap",
        output=photos / "out",
        as_json=True,
    )
    document = json.loads(capsys.readouterr().out)
    (row,) = document["images"][0]["explanations"]
    assert row["label"] == "green"
    assert "completeness_error" in row["metadata"]
    picture = cv2.imread(row["png"])
    assert picture is not None
    assert picture.shape == (64, 64, 3)


def test_multilabel_explains_what_is_probable_enough(
    multilabel_folder: Path, photos: Path, capsys: Capture
) -> None:
    def run(threshold: float) -> list[str]:
        images = [str(photos / "a")]
        out = photos / str(threshold)
        explain(multilabel_folder, images, "guided_backprop", threshold=threshold, output=out)
        assert capsys.readouterr().out
        return sorted(path.name for path in out.glob("*.png"))

    assert run(0.0) == ["1.blue.png", "1.green.png", "1.red.png"]
    assert run(1.0) == []


def test_classes_that_look_the_same_to_a_file_system_get_pictures_of_their_own(
    multilabel_folder: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(multilabel_folder, folder)
    manifest = msgspec.structs.replace(read_manifest(folder), labels=["c#", "c+", "사" * 90])
    (folder / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    image = (photos / "a" / "1.jpg").rename(photos / "a" / f"{'진' * 80}.jpg")
    out = tmp_path / "out"
    explain(folder, [str(image)], "guided_backprop", threshold=0.0, output=out)
    named = [line.rpartition("  ")[2] for line in capsys.readouterr().out.splitlines()]
    assert len(set(named)) == 3
    assert sorted(named) == sorted(str(path) for path in out.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "pink"}, "--target must be one of the model's classes (blue, green, red)"),
        ({"n_steps": 1}, "--n-steps must be a whole number from 2 to 1000, got 1."),
        ({"threshold": 2.0}, "--threshold must be a number from 0 to 1, got 2.0."),
        ({"data": "x.jsonl"}, "--data belongs to --evaluate"),
        ({"evaluate": True}, "--evaluate measures on data and takes no images"),
        ({"images": None}, "no images given"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    model_folder: Path, photos: Path, capsys: Capture, options: dict[str, Any], message: str
) -> None:
    given = {"images": [str(photos / "a")], "output": photos / "out", **options}
    assert refused(model_folder, **given) == 2
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_model_without_torch_weights_and_images_that_all_fail_are_status_2(
    model_folder: Path, tiny_model: Path, photos: Path, capsys: Capture
) -> None:
    assert refused(tiny_model, [str(photos / "a")]) == 2
    assert "has no model.safetensors" in capsys.readouterr().err
    (photos / "a" / "1.jpg").write_text("text")
    assert refused(model_folder, [str(photos / "a")], output=photos / "out") == 2
    assert "1 of 1 images could not be read" in capsys.readouterr().err


def test_evaluation_prints_algorithms_beside_maps_that_know_nothing(
    model_folder: Path, photo_folder: Path, capsys: Capture
) -> None:
    data = str(photo_folder)
    explain(model_folder, evaluate=True, data=data, max_images=2, n_steps=4, as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert result["num_images"] == result["num_explanations"] == 2
    assert set(result["algorithms"]) == {*names_of("classes"), "random map", "centred Gaussian"}
    assert result["refused"] == {}
    command._print_quality({**result, "refused": {"guided_gradcam": "has no map"}}, False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 images, 2 explanations"
    assert [line.split("  ")[0] for line in lines[2:8]] == list(result["algorithms"])
    xrai = result["algorithms"]["xrai"]
    assert f"{xrai['insertion']:.3f} ± {xrai['insertion_error']:.3f}" in lines[2]
    assert lines[7].endswith("–")
    assert "has no map" in lines[8]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_detector(tmp_path_factory.mktemp("cli") / "boxes", ObjectDetection.name)


def test_a_picture_a_box_of_a_model_that_finds_objects(
    detector: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "sky.png").write_bytes(bright_photo())
    out = tmp_path / "out"
    explain(detector, [str(tmp_path / "sky.png")], num_masks=20, output=out, npy=True)
    printed, noted = capsys.readouterr()
    assert noted.splitlines()[0] == f"Explaining 1 image by d_rise into {out}/"
    assert len(printed.splitlines()) == 2
    names = sorted(path.name for path in out.iterdir())
    assert [name.partition("-")[0] for name in names] == ["sky.00"] * 2 + ["sky.01"] * 2
    assert {np.load(path).shape for path in out.glob("*.npy")} == {(1, 48, 64)}
    explain(
        detector,
        [str(tmp_path / "sky.png")],
        algorithm="d_rise",
        num_masks=20,
        target="star",
        output=out,
        as_json=True,
    )
    (row,) = json.loads(capsys.readouterr().out)["images"][0]["explanations"]
    assert row["label"] == "star"
    assert row["box"]["topX"] == pytest.approx(0.6, abs=1e-3)
    assert row["metadata"]["num_masks"] == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithm": "xrai"}, "--algorithm must be one of d_rise, got 'xrai'."),
        ({"num_masks": 1}, "--num-masks must be a whole number from 2 to 20000, got 1."),
        ({"grid": 65, "seed": -1}, "from 1 to 64, got 65.\nerror: --seed must be a whole"),
        ({"max_boxes": 0}, "--max-boxes must be a whole number"),
    ],
)
def test_wrong_input_for_boxes_names_the_flag(
    detector: Path, tmp_path: Path, capsys: Capture, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "sky.png").write_bytes(bright_photo())
    given = {"images": [str(tmp_path / "sky.png")], "output": tmp_path / "out", **options}
    assert refused(detector, **given) == 2
    assert message in capsys.readouterr().err


def test_data_with_boxes_adds_the_pointing_game(
    model_folder: Path, photo_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    box = {"topX": 0.2, "topY": 0.1, "bottomX": 0.8, "bottomY": 0.9}
    rows = [
        {"image_url": str(photo_folder / label / "0.png"), "label": [{"label": label, **box}]}
        for label in ("blue", "red")
    ]
    # Neither a class that the model does not know nor an image without objects is explained.
    rows.append({**rows[0], "image_url": str(photo_folder / "red" / "1.png")})
    rows[-1]["label"] = [{"label": "pink", **box}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    explain(model_folder, evaluate=True, data=str(path), n_steps=2, as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert (result["num_images"], result["num_explanations"]) == (3, 2)
    assert result["algorithms"]["centred Gaussian"]["pointing"] == 1
    assert all(0 <= row["pointing"] <= 1 for row in result["algorithms"].values())
    command._print_quality(result, False)
    printed = capsys.readouterr().out
    assert "pointing" in printed.splitlines()[1]
    assert printed.splitlines()[-1].count(";") == 3


def test_evaluation_of_boxes_prints_what_classes_have_and_agreement(
    detector: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "sky.png").write_bytes(bright_photo())
    lamp = {"topX": 0.1, "topY": 0.1, "bottomX": 0.4, "bottomY": 0.5, "label": "lamp"}
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image_url": "sky.png", "label": [lamp]}))
    explain(detector, evaluate=True, data=str(tmp_path / "rows.jsonl"), num_masks=100, grid=6)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 images, 2 explanations"
    assert lines[1].split() == ["insertion", "deletion", "pointing", "halves"]
    row = lines[2].split()
    assert (row[0], row[2], row[5], row[7]) == ("d_rise", "±", "±", "1.00")


def test_unknown_algorithm_is_a_usage_error_before_anything_is_loaded(tmp_path: Path) -> None:
    done = run("explain", tmp_path, "x.jpg", "--algorithm", "lime", timeout=60)
    assert done.returncode == 2
    assert "guided_gradcam" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_explaining_from_python(model_folder: Path, photos: Path, photo: bytes) -> None:
    model = autofocus.load(model_folder)
    images = [photo, str(photos / "a" / "1.jpg"), photos / "b" / "1.jpg"]
    explained = model.explain(images, xai_algorithm="guided_gradcam", target="red")
    assert [[item.label for item in of_image] for of_image in explained] == [["red"]] * 3
    (scored,) = model.score([photo])
    assert explained[0][0].probability == pytest.approx(scored["probs"][2])
    assert explained[0][0].map.shape == (3, 64, 64)
    for one in (photo, images[1], images[2]):
        with pytest.raises(InputError, match="images must be a list"):
            model.score(one)
    with pytest.raises(RequestError, match="no key 'algorithm'"):
        model.explain([photo], algorithm="xrai")
    with pytest.raises(ImageError, match=r"images\[1\]: "):
        model.explain([photo, b"text"], xai_algorithm="guided_backprop")
