"""`autofocus batch`: what the endpoint says of every image, in one file, in order."""

import base64
import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofocus import api
from autofocus.batch import answers
from autofocus.errors import InputError
from support.accelerator import Accelerator
from support.commands import invoke
from support.serving import request_for
from support.tiny_detector import bright_photo, write_tiny_detector

Rows = list[dict[str, Any]]


@pytest.fixture
def photos(tmp_path: Path, make_photo: Callable[..., bytes]) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for seed in range(9):
        (folder / f"{seed}.jpg").write_bytes(make_photo(seed))
    (folder / "4.jpg").write_bytes(b"text")
    (folder / "sub" / "9.png").write_bytes(make_photo(9, (80, 60), "PNG"))
    return folder


def batched(*arguments: object, output: Path) -> Rows:
    done = invoke("batch", *arguments, "-o", output)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_lines_are_what_the_endpoint_answers(
    server: Any, tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    rows = batched(tiny_model, photos, output=tmp_path / "out.jsonl")
    files = [*sorted(photos.glob("*.jpg")), photos / "sub" / "9.png"]
    reply = server.score(request_for(*(file.read_bytes() for file in files))).json
    assert [row.pop("filename") for row in rows] == [str(file) for file in files]
    assert rows == reply
    assert rows[4]["error"]["code"] == "image.unknown_format"


def test_a_missing_image_keeps_its_place_and_none_at_all_is_status_2(
    tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    missing = photos / "none.jpg"
    rows = batched(tiny_model, photos / "1.jpg", missing, photos / "0.jpg", output=tmp_path / "a")
    assert ["probs" in row for row in rows] == [True, False, True]
    assert rows[1]["error"]["code"] == "file.missing"
    done = invoke("batch", tiny_model, missing, "-o", tmp_path / "b")
    assert done.exit_code == 2
    assert (tmp_path / "b").exists()


def test_summary_is_one_document_and_the_same_command_again_changes_nothing(
    tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    command = ("batch", tiny_model, photos, "-o", output, "--json")
    first = json.loads(invoke(*command).stdout)
    stamp = output.stat().st_mtime_ns
    assert (first["num_images"], first["num_failed"], first["num_before"]) == (10, 1, 0)
    assert first["images_per_second"] > 0
    again = json.loads(invoke(*command).stdout)
    assert (again["num_images"], again["num_failed"], again["num_before"]) == (10, 1, 10)
    assert output.stat().st_mtime_ns == stamp
    (photos / "new.jpg").write_bytes(b"")
    changed = invoke(*command)
    assert changed.exit_code == 2
    assert "is complete with 10 images, the sources have 11" in changed.stderr


def test_too_many_errors_end_it_and_a_higher_threshold_goes_on(
    tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "1.jpg").write_bytes(b"text")
    output = tmp_path / "out.jsonl"
    command = ("batch", tiny_model, photos, "-o", output, "--mini-batch-size", 1)
    done = invoke(*command, "--error-threshold", 1)
    assert done.exit_code == 1
    assert "2 of the first 5 images could not be read" in done.output
    assert not output.exists()
    lines = (tmp_path / "out.jsonl.partial").read_bytes()
    assert invoke(*command, "--error-threshold", 1).exit_code == 1
    assert (tmp_path / "out.jsonl.partial").read_bytes() == lines
    assert invoke(*command, "--error-threshold", 2).exit_code == 0
    assert len(output.read_text().splitlines()) == 10


def test_a_deployment_says_the_output_and_what_is_not_used(
    tiny_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d.yml").write_text("compute: c\noutput_file_name: predictions.csv\nmini_batch_size: 3\n")
    done = invoke("batch", tiny_model, photos, "--deployment", "d.yml")
    assert done.exit_code == 0
    assert "d.yml: not used here: compute" in done.stderr
    assert json.loads(Path("predictions.csv").read_text().splitlines()[0])["filename"]


def test_a_table_of_classes(tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    rows = batched(tiny_model, photos, output=tmp_path / "out.jsonl")
    assert invoke("batch", tiny_model, photos, "-o", tmp_path / "out.csv").exit_code == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["filename"] for row in table] == [row["filename"] for row in rows]
    assert table[4]["error"]
    assert not table[4]["label"]
    best = int(np.argmax(rows[0]["probs"]))
    assert table[0]["label"] == rows[0]["labels"][best]
    assert float(table[0]["score"]) == rows[0]["probs"][best]
    assert float(table[0]["prob_carton"]) == rows[0]["probs"][1]


def test_a_table_of_objects_has_a_row_each(tmp_path: Path) -> None:
    model = write_tiny_detector(tmp_path / "model", "image_object_detection")
    (tmp_path / "a.png").write_bytes(bright_photo())
    (tmp_path / "b.png").write_bytes(b"")
    sources = (tmp_path / "a.png", tmp_path / "b.png")
    (found, _) = batched(model, *sources, output=tmp_path / "out.jsonl")
    done = invoke("batch", model, *sources, "-o", tmp_path / "out.parquet")
    assert done.exit_code == 0, done.output
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(table) == len(found["boxes"]) + 1
    for row, item in zip(table, found["boxes"], strict=False):
        assert (row["filename"], row["label"]) == (str(sources[0]), item["label"])
        assert row["topX"] == pytest.approx(item["box"]["topX"])
    assert table[-1]["filename"] == str(sources[1])
    assert table[-1]["error"]


def test_parquet_without_its_package_says_what_to_install(
    tiny_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autofocus.batch.table.find_spec", lambda name: None)
    done = invoke("batch", tiny_model, photos, "-o", tmp_path / "out.parquet")
    assert done.exit_code == 2
    assert "pip install '.[parquet]'" in done.stderr
    assert not (tmp_path / "out.parquet.partial").exists()


def test_drawings_are_named_by_position_and_never_become_images(
    tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    batched(tiny_model, photos, "--draw", tmp_path / "drawn", output=tmp_path / "out.jsonl")
    drawn = sorted(file.name for file in (tmp_path / "drawn").iterdir())
    assert drawn[0] == "0000000-0.jpg"
    assert drawn[-1] == "0000009-9.jpg"
    assert len(drawn) == 9
    for source in (photos, photos / "*.jpg", photos.parent):
        done = invoke("batch", tiny_model, source, "--draw", photos, "-o", tmp_path / "b")
        assert done.exit_code == 2
        assert "Choose another folder" in done.stderr


def test_explanations_are_the_endpoints(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    options = ("--explain", "guided_backprop", "--attributions")
    (row,) = batched(model_folder, photos / "0.jpg", *options, output=tmp_path / "out.jsonl")
    (found,) = api.load(model_folder).explain(
        [photos / "0.jpg"], xai_algorithm="guided_backprop", attributions=True
    )
    assert base64.b64decode(row["visualizations"]) == found[0].png
    assert np.allclose(row["attributions"], found[0].map, atol=1e-6)
    for flags, why in (
        (("--explain", "d_rise"), "--explain must be one of"),
        (("--explain", "xrai", "--format", "csv"), "--format must be jsonl"),
    ):
        done = invoke("batch", model_folder, photos / "0.jpg", *flags, "-o", tmp_path / "b")
        assert done.exit_code == 2
        assert why in done.stderr


def test_features_are_what_the_head_sees(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    rows = batched(model_folder, photos, "--features", output=tmp_path / "out.jsonl")
    assert "feature_vector" not in rows[4]
    from safetensors.numpy import load_file

    weights = load_file(model_folder / "model.safetensors")
    (head,) = [name for name in weights if name.endswith("head.weight")]
    logits = weights[head] @ np.array(rows[0]["feature_vector"])
    logits += weights[head.replace("weight", "bias")]
    probs = np.exp(logits - logits.max())
    assert np.allclose(probs / probs.sum(), rows[0]["probs"], atol=1e-4)


def test_features_of_objects_are_refused(tmp_path: Path) -> None:
    model = write_tiny_detector(tmp_path / "model", "image_object_detection")
    (tmp_path / "a.png").write_bytes(bright_photo())
    done = invoke("batch", model, tmp_path / "a.png", "--features", "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "only models of whole images" in done.stderr


def test_a_store_that_cannot_be_reached_is_asked_again(
    tiny_model: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    content = (photos / "0.jpg").read_bytes()

    def open_bytes(place: str) -> bytes:
        asked.append(place)
        if len(asked) < 3 or "gone" in place:
            raise answers.LocateError("url.unreachable", "no route")
        return content

    monkeypatch.setattr(answers, "open_bytes", open_bytes)
    monkeypatch.setattr(answers.time, "sleep", lambda seconds: None)
    urls = ("https://store/a.jpg?sig=secret", "https://store/gone.jpg")
    first, second = batched(tiny_model, *urls, "--mini-batch-size", 2, output=tmp_path / "out")
    assert "probs" in first
    assert second["error"] == {"code": "url.unreachable", "message": "no route"}
    assert len(asked) == 3 + 4
    assert asked[0].endswith("?sig=secret")
    assert not [file for file in tmp_path.glob("out*") if "secret" in file.read_text()]


def test_images_are_joined_on_an_accelerator(
    tiny_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = batched(tiny_model, photos, output=tmp_path / "cpu.jsonl")
    accelerator = Accelerator(monkeypatch)
    # Long enough for others to come.
    monkeypatch.setattr(accelerator.may_go_on, "wait", lambda _: time.sleep(0.05) or True)
    monkeypatch.setattr("autofocus.batch.run.num_cores", lambda: 1)
    found = batched(tiny_model, photos, output=tmp_path / "out.jsonl")
    assert max(accelerator.sizes) > 1
    for row, expected in zip(found, rows, strict=True):
        assert row.keys() == expected.keys()
        assert row.get("probs") == pytest.approx(expected.get("probs"), abs=1e-6)


def test_the_command_needs_no_torch(tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from autofocus.cli.__main__ import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    arguments = ("batch", str(tiny_model), str(photos), "-o", str(tmp_path / "out.csv"))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_from_python_results_are_yielded_in_order(tiny_model: Path, photos: Path) -> None:
    model = api.load(tiny_model)
    files = sorted(photos.glob("*.jpg"))
    taken = iter([files[0].read_bytes(), *files[1:], photos / "none.jpg"])
    found = list(model.batch(taken))
    assert [row.get("error", {}).get("code") for row in found] == [
        *(None,) * 4,
        "image.unknown_format",
        *(None,) * 4,
        "file.missing",
    ]
    good = [file for file in files if file.name != "4.jpg"]
    assert [row for row in found if "error" not in row] == model.score(good)
    with pytest.raises(InputError, match=r"write \[image\]"):
        model.batch(str(files[0]))
