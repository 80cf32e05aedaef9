"""`autofocus data check` and `convert`: documents, exit statuses and messages."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from autofocus.data.rows.records import RECORD_TYPES
from autofocus.data.sources.find import find_splits
from autofocus.data.sources.read import read_data
from autofocus.settings.job_file import override
from support.commands import invoke
from support.object_sources import (
    CAN,
    CUP,
    OUTSIDE,
    write_coco,
    write_masks,
    write_text,
    write_voc,
    write_yolo,
)
from support.photos import encode_photo
from support.rows import row

TASKS = list(RECORD_TYPES)
BOX = {"label": "can", "topX": 0.1, "topY": 0.2, "bottomX": 0.5, "bottomY": 0.6, "isCrowd": 1}


def document(result: Result) -> Any:
    return json.loads(result.stdout)


def write_photo(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_photo(seed, (20, 40), "PNG"))


def write(folder: Path, *rows: Any, name: str = "train.jsonl") -> Path:
    for i, item in enumerate(rows):
        if isinstance(item, dict):
            write_photo(folder / item["image_url"], i)
    path = folder / name
    path.write_text("".join(json.dumps(item) + "\n" for item in rows))
    return path


def test_check_prints_the_documented_object(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.png", "x"), row("b.png", "y"), row("b.png", 1.5))
    result = invoke("data", "check", path, "--json")
    assert result.exit_code == 2
    found = document(result)
    keys = ["task", "num_rows", "num_valid", "splits", "classes", "groups", "counts", "issues"]
    assert list(found) == keys
    assert found["splits"] == {}
    assert (found["task"], found["num_rows"], found["num_valid"]) == (TASKS[0], 3, 2)
    assert found["classes"] == {"x": 1, "y": 1}
    assert found["counts"] == {"label.type": 1, "class.few_samples": 2}
    assert found["issues"][0] == {
        "file": str(path),
        "line": 3,
        "path": "label",
        "code": "label.type",
        "severity": "error",
        "value": 1.5,
        "message": "must be a class name (text)",
        "hint": "",
    }


def test_check_exits_0_without_errors(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.png", "x"), row("b.png", "y"))
    for flags in ((), ("--no-images",), ("--decode",), ("--json",)):
        result = invoke("data", "check", path, *flags)
        assert result.exit_code == 0, result.output
    assert (
        f"autofocus train --task {TASKS[0]} --data {path}" in invoke("data", "check", path).stdout
    )


def test_no_images_looks_at_no_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row("gone.png", "x")))
    assert invoke("data", "check", path, "--no-images").exit_code == 0
    result = invoke("data", "check", path)
    assert result.exit_code == 2
    assert "gone.png" in result.stdout


def test_all_issues_are_written_when_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.png", "x"), *(row("a.png", True) for _ in range(150)))
    out = tmp_path / "out"
    result = invoke("data", "check", path, "-o", out, "--json")
    issues = [json.loads(line) for line in (out / "issues.jsonl").read_text().splitlines()]
    found = document(result)
    assert len(issues) == sum(found["counts"].values())
    assert len([issue for issue in found["issues"] if issue["code"] == "label.type"]) == 100
    assert [file.name for file in out.iterdir()] == ["issues.jsonl"]


def test_the_table_names_codes_first_issues_and_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.png", "x"), row("b.png", "y"), row("c.png", None))
    text = invoke("data", "check", path).stdout
    assert "3 rows, 2 usable, 2 classes" in text
    assert f"error: {path}:3: label is missing." in text
    assert "go on without what cannot be used: autofocus train" in text


def test_the_task_is_asked_for_when_it_cannot_be_told(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.png", []), row("b.png", []))
    result = invoke("data", "check", path)
    assert result.exit_code == 2
    assert "--task" in result.stderr
    assert all(name in result.stderr for name in TASKS[1:4])
    assert invoke("data", "check", path, "--task", TASKS[2]).exit_code == 2  # class.none
    result = invoke("data", "check", path, "--task", "detection", "--json")
    assert result.exit_code == 2
    assert "must be one of" in document(result)["error"]["problems"][0]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "source.empty"),
    "truncated": (b'{"image_url": "a.png", "la', "json.truncated"),
    "trailing comma": (b'{"image_url": "a.png", "label": "x",}', "json.invalid"),
    "no label": (b'{"image_url": "a.png", "kind": "x"}', "label.missing"),
    "wrong type": (b'{"image_url": 3, "label": "x"}', "image_url.type"),
    "binary text": (b"\x00\x01\x02\x03", "json.truncated"),
    "a list": (b'[{"image_url": "a.png", "label": "x"}]', "row.type"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_without_a_usable_row_is_reported_and_exits_2(tmp_path: Path, name: str) -> None:
    content, code = HOSTILE[name]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    result = invoke("data", "check", path, "--json", "--no-images")
    assert result.exit_code == 2
    found = document(result)
    assert found["num_valid"] == 0
    assert code in found["counts"]


def test_columns_by_other_names_are_asked_for_and_taken(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"photo": "a.png", "kind": "x"}\n{"photo": "b.png", "kind": "y"}\n')
    result = invoke("data", "check", path, "--no-images")
    assert result.exit_code == 2
    assert "photo, kind; name the column with --target-column" in result.stdout
    flags = ("--image-column", "photo", "--target-column", "kind")
    assert invoke("data", "check", path, "--no-images", *flags).exit_code == 0


def test_groups_of_a_column_are_counted_and_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    cameras = ["hall", "yard", "hall", None]
    rows = [row(f"{i}.png", "xy"[i % 2]) | {"camera": camera} for i, camera in enumerate(cameras)]
    path.write_text("".join(json.dumps(item) + "\n" for item in rows))
    flags = ("--no-images", "--group-column", "camera")
    result = invoke("data", "check", path, *flags)
    assert result.exit_code == 0
    assert "2 groups, 1 rows of none" in result.stdout
    assert "--group-column camera" in result.stdout.splitlines()[-1]
    found = document(invoke("data", "check", path, *flags, "--json"))
    assert found["groups"] == {"num_named": 2, "num_ungrouped": 1}
    assert document(invoke("data", "check", path, "--no-images", "--json"))["groups"] is None
    unknown = invoke("data", "check", path, "--no-images", "--group-column", "kamera")
    assert unknown.exit_code == 2
    assert "did you mean 'camera'?" in unknown.stderr


def test_windows_paths_are_mapped(tmp_path: Path) -> None:
    write_photo(tmp_path / "photos" / "a.png")
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row("C:\\data\\photos\\a.png", "x")))
    result = invoke("data", "check", path)
    assert result.exit_code == 2
    assert "--map" in result.stdout
    assert invoke("data", "check", path, "--map", f"C:\\data={tmp_path}").exit_code == 0


@pytest.mark.parametrize(
    "flags", [("--no-images", "--decode"), ("--map", "x"), ("--map", "x=/nothing/there")]
)
def test_wrong_flags_exit_2_with_one_line(tmp_path: Path, flags: tuple[str, ...]) -> None:
    path = write(tmp_path, row("a.png", "x"))
    result = invoke("data", "check", path, *flags)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_a_source_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    for command in (("check",), ("convert", "-o", tmp_path / "out")):
        result = invoke("data", *command, tmp_path / "nothing", "--json")
        assert result.exit_code == 2
        assert document(result)["error"]["type"] == "DataError"


def test_class_folders_convert_to_rows_beside_the_images(tmp_path: Path) -> None:
    write_photo(tmp_path / "can" / "a.png")
    write_photo(tmp_path / "box" / "b.png")
    before = read_data(tmp_path, RECORD_TYPES[TASKS[0]])
    result = invoke("data", "convert", tmp_path, "--to", "jsonl", "-o", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    assert document(result) == {
        "task": TASKS[0],
        "files": {
            "train": {
                "path": str(tmp_path / "train.jsonl"),
                "num_rows": 2,
                "num_records": 2,
                "counts": {},
            }
        },
        "dropped": None,
    }
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert rows == [row("box/b.png", "box"), row("can/a.png", "can")]
    assert read_data(tmp_path / "train.jsonl", RECORD_TYPES[TASKS[0]]).records == before.records


def test_images_elsewhere_become_absolute_and_splits_are_kept(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_photo(tmp_path / "photos" / split / "can" / "a.png")
    out = tmp_path / "out"
    named = ("--task", "image_classification")  # of one class only
    result = invoke("data", "convert", tmp_path / "photos", *named, "-o", out, "--mltable")
    assert result.exit_code == 0, result.output
    assert list(find_splits(out)) == ["train", "validation", "test"]
    for split, folder in (("train", "training"), ("validation", "validation"), ("test", "test")):
        data = read_data(out / f"{split}.jsonl", RECORD_TYPES[TASKS[0]])
        assert Path(data.records[0].image_url).is_absolute()
        table = read_data(out / f"{folder}-mltable-folder", RECORD_TYPES[TASKS[0]])
        assert table.fingerprint == data.fingerprint


def test_remote_and_mapped_urls_stay_as_they_are(tmp_path: Path) -> None:
    write_photo(tmp_path / "store" / "a.png")
    url = "azureml://datastores/blob/paths/a.png"
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row(url, "x")))
    result = invoke(
        "data", "convert", path, "-o", tmp_path / "out", "--map", f"blob={tmp_path / 'store'}"
    )
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "train.jsonl").read_text()) == row(url, "x")


def test_what_is_dropped_is_listed_with_its_reason(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        row("a.png", [BOX, {**BOX, "topX": 7}]),
        row("b.png", [{**BOX, "topX": "0.2"}]),
        [1],
        name="rows.jsonl",
    )
    with open(path, "a") as file:
        file.write(json.dumps(row("gone.png", [BOX])) + "\n{\n")
    out = tmp_path / "out"
    result = invoke("data", "convert", path, "-o", out)
    assert result.exit_code == 0, result.output
    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    # A missing file waits for the others, so that one map can be proposed for all of them.
    assert sorted((issue["line"], issue["code"]) for issue in dropped) == [
        (1, "coordinate.out_of_range"),
        (3, "row.type"),
        (4, "file.missing"),
        (5, "json.invalid"),
    ]
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    assert [len(item["label"]) for item in rows] == [1, 1]
    # What was written is clean.
    assert invoke("data", "check", out / "train.jsonl", "--json").exit_code == 0


def test_absolute_coordinates_become_fractions(tmp_path: Path) -> None:
    # The images have 40 x 20 pixels.
    pixels = {"label": "can", "topX": 4, "topY": "2", "bottomX": 40.1, "bottomY": 10}
    ring = {"label": "can", "polygon": [[4, 2, 20, 2, 20, 10]]}
    boxes = write(tmp_path, row("a.png", [pixels]), row("b.png", [BOX]), row("c.png", []))
    assert invoke("data", "check", boxes, "--json").exit_code == 2
    result = invoke("data", "convert", boxes, "-o", tmp_path / "boxes", "--absolute")
    assert result.exit_code == 0, result.output
    data = read_data(tmp_path / "boxes" / "train.jsonl", RECORD_TYPES[TASKS[2]])
    scaled = data.records[0].label[0]  # type: ignore[attr-defined]
    assert (scaled.top_x, scaled.top_y, scaled.bottom_x, scaled.bottom_y) == (0.1, 0.1, 1.0, 0.5)
    # A row of fractions stays as it is.
    kept = data.records[1].label[0]  # type: ignore[attr-defined]
    assert (kept.top_x, kept.bottom_y, kept.is_crowd) == (0.1, 0.6, True)
    rings = write(tmp_path, row("a.png", [ring]), name="rings.jsonl")
    assert invoke("data", "convert", rings, "-o", tmp_path / "rings", "--absolute").exit_code == 0
    data = read_data(tmp_path / "rings" / "train.jsonl", RECORD_TYPES[TASKS[3]])
    assert data.records[0].label[0].polygon == [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]  # type: ignore[attr-defined]


def test_absolute_is_refused_for_rows_without_coordinates(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.png", "x"))
    result = invoke("data", "convert", path, "-o", tmp_path / "out", "--absolute")
    assert result.exit_code == 2
    assert "--absolute" in result.stderr


def test_convert_overwrites_nothing_it_reads(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.png", "x"))
    before = path.read_bytes()
    result = invoke("data", "convert", path, "-o", tmp_path)
    assert result.exit_code == 2
    assert "name another folder with -o" in result.stderr
    assert path.read_bytes() == before


def test_convert_to_another_format_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.png", "x"))
    result = invoke("data", "convert", path, "--to", "coco", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "got 'coco'" in result.stderr


def test_the_command_to_go_on_with_carries_the_flags(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    write_photo(folder / "a.png")
    write_photo(folder / "b.png", 1)
    path = folder / "rows.jsonl"
    rows = [{"file": f"h://host/{name}.png", "kind": name} for name in "ab"]
    path.write_text("".join(json.dumps(item) + "\n" for item in rows))
    flags = ("--target-column", "kind", "--image-column", "file", "--map", f"h://host={folder}")
    result = invoke("data", "check", path, *flags)
    assert result.exit_code == 0, result.output
    command = shlex.split(result.stdout.splitlines()[-1].removeprefix("next: "))
    task = ["--task", TASKS[0]]
    assert command == ["autofocus", "train", *task, "--data", str(path), *flags]
    result = invoke("data", "convert", path, *flags, "-o", tmp_path / "out")
    command = shlex.split(result.stdout.splitlines()[-1].removeprefix("next: "))
    assert command == ["autofocus", "train", *task, "--data", str(tmp_path / "out/train.jsonl")]


def test_check_looks_at_all_splits_of_a_source(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [CAN], "b": [CAN, OUTSIDE], "c": [CUP]})
    for name, stem in (("train", "a"), ("val", "b"), ("test", "c")):
        write_text(tmp_path / "ImageSets" / "Main" / f"{name}.txt", stem)
    result = invoke("data", "check", tmp_path, "--json")
    assert result.exit_code == 2
    found = document(result)
    assert found["task"] == TASKS[2]
    assert found["splits"] == {
        split: {"num_rows": 1, "num_valid": 1} for split in ("train", "validation", "test")
    }
    assert (found["num_rows"], found["classes"]) == (3, {"can": 2, "cup": 1})
    bad = next(issue for issue in found["issues"] if issue["severity"] == "error")
    assert bad["file"] == str(tmp_path / "Annotations" / "b.xml")
    assert bad["path"] == "object[1].bndbox"
    text = invoke("data", "check", tmp_path).stdout
    assert "validation: 1 rows, 1 usable" in text
    assert "xmin 31, ymin 6, xmax 60, ymax 15" in text


def test_objects_are_converted_with_their_splits(tmp_path: Path) -> None:
    write_voc(tmp_path / "voc", {"a": [CAN], "b": [CAN, OUTSIDE], "c": [OUTSIDE], "d": []})
    for name, stems in (("train", "a d"), ("val", "b"), ("test", "c a")):
        lines = "\n".join(stems.split())
        write_text(tmp_path / "voc" / "ImageSets" / "Main" / f"{name}.txt", lines)
    out = tmp_path / "out"
    result = invoke("data", "convert", tmp_path / "voc", "-o", out, "--mltable", "--json")
    assert result.exit_code == 0
    files = document(result)["files"]
    assert {split: part["num_records"] for split, part in files.items()} == {
        "train": 2,
        "validation": 1,
        "test": 1,
    }
    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert [issue["code"] for issue in dropped] == [
        "coordinate.out_of_range",
        "coordinate.out_of_range",
        "row.nothing_valid",
    ]
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    assert rows[0]["image_url"] == str(tmp_path / "voc" / "JPEGImages" / "a.png")
    assert rows[0]["image_details"] == {"format": "png", "width": 40, "height": 20}
    assert rows[0]["label"] == [
        {
            "label": "can",
            "topX": 0.1,
            "topY": 0.25,
            "bottomX": 0.35,
            "bottomY": 0.75,
            "isCrowd": False,
        }
    ]
    assert rows[1]["label"] == []
    assert list(find_splits(out)) == ["train", "validation", "test"]
    assert f"--data {out}\n" in invoke("data", "convert", tmp_path / "voc", "-o", out).stdout
    assert invoke("data", "check", out, "--json").exit_code == 0
    for folder in ("training", "validation", "test"):
        assert read_data(out / f"{folder}-mltable-folder", RECORD_TYPES[TASKS[2]]).records


def test_converted_beside_the_images_they_are_found_anywhere(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "coco", {"a": [CAN], "b": [CUP]})
    result = invoke("data", "convert", path, "--task", TASKS[3], "-o", path)
    assert result.exit_code == 0, result.output
    moved = path.rename(tmp_path / "elsewhere")
    data = read_data(moved, RECORD_TYPES[TASKS[3]])
    assert data.locations == [str(moved / "images" / f"{name}.png") for name in "ab"]


def test_a_source_with_boxes_and_outlines_asks_for_the_task(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "coco", {"a": [CAN]})
    for command in (("check",), ("convert", "-o", tmp_path / "out")):
        result = invoke("data", command[0], path, *command[1:])
        assert result.exit_code == 2
        assert f"the rows fit {TASKS[2]}, {TASKS[3]}" in result.stderr


def test_pixels_are_said_of_json_lines_only(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "coco", {"a": [CAN]})
    result = invoke(
        "data", "convert", path, "--task", TASKS[2], "--absolute", "-o", tmp_path / "out"
    )
    assert result.exit_code == 2
    assert "--absolute is about JSON Lines" in result.stderr


def test_objects_of_masks_may_be_named(tmp_path: Path) -> None:
    path = write_masks(tmp_path / "masks", {"a": [CAN, CUP], "b": []})
    result = invoke("data", "check", path, "--class-name", "cell", "--json")
    assert document(result)["classes"] == {"cell": 2}
    assert invoke("data", "check", path, "--class-name", "").exit_code == 2
    next_line = invoke("data", "check", path, "--class-name", "no").stdout.splitlines()[-1]
    words = shlex.split(next_line.removeprefix("next: "))
    assert override({}, words[words.index("--set") + 1 :]) == {"data": {"class_name": "no"}}
    assert "data.masks=classes" in invoke("data", "check", path, "--masks", "classes").stdout


def test_what_coordinates_are_is_about_formats_that_count_pixels(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path / "yolo", {"a": [CAN]})
    result = invoke("data", "check", folder, "--coordinates", "fractions")
    assert (result.exit_code, "got a source of the kind yolo" in result.output) == (2, True)
    file = write_coco(tmp_path / "coco", {"a": [CAN]}, outlines=False)
    result = invoke("data", "check", file, "--coordinates", "pixels")
    assert result.exit_code == 0, result.output
    assert f"--data {file} --set data.coordinates=pixels" in result.output
