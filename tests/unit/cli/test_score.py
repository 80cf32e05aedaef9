import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from autofocus.cli.score import score
from autofocus.errors import ImageError
from autofocus.scoring import image_paths, scorer
from support.serving import request_for

Capture = pytest.CaptureFixture[bytes]


@pytest.fixture
def photos(tmp_path: Path, make_photo: Any) -> Path:
    for seed in range(3):
        (tmp_path / f"{seed}.jpg").write_bytes(make_photo(seed))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_json_is_exactly_what_the_endpoint_answers(
    server: Any, tiny_model: Path, photos: Path, capsysbinary: Capture
) -> None:
    (photos / "2.jpg").write_bytes(b"text")
    score(tiny_model, [str(photos)], as_json=True)
    files = sorted(photos.glob("*.jpg"))
    reply = server.score(request_for(*(file.read_bytes() for file in files)))
    out, err = capsysbinary.readouterr()
    assert out == reply.body + b"\n"
    assert b"1 of 3 images could not be read" in err


def test_missing_image_keeps_its_place(
    tiny_model: Path, photos: Path, capsysbinary: Capture
) -> None:
    names = [str(photos / name) for name in ("1.jpg", "missing.jpg", "notes.txt", "0.jpg")]
    score(tiny_model, names, as_json=True)
    rows = json.loads(capsysbinary.readouterr().out)
    assert ["probs" in row for row in rows] == [True, False, False, True]
    assert rows[1]["error"]["code"] == "image.missing"
    assert rows[2]["error"]["code"] == "image.unknown_format"


@pytest.mark.parametrize("as_json", [False, True])
def test_status_is_2_when_no_image_could_be_read(
    tiny_model: Path, photos: Path, capsysbinary: Capture, as_json: bool
) -> None:
    with pytest.raises(typer.Exit) as caught:
        score(tiny_model, [str(photos / "missing.jpg"), str(photos / "notes.txt")], as_json=as_json)
    assert caught.value.exit_code == 2
    out, err = capsysbinary.readouterr()
    assert out.count(b"error") >= 2
    assert b"2 of 2 images could not be read" in err


def test_lines_show_the_likeliest_labels_first(
    tiny_model: Path, photos: Path, capsysbinary: Capture
) -> None:
    score(tiny_model, [str(photos / "0.jpg"), str(photos / "missing.jpg")], as_json=False)
    first, second = capsysbinary.readouterr().out.decode().splitlines()
    score(tiny_model, [str(photos / "0.jpg")], as_json=True)
    row = json.loads(capsysbinary.readouterr().out)[0]
    prob, label = max(zip(row["probs"], row["labels"], strict=True))
    assert first.startswith(f"{photos / '0.jpg'}: {label} {prob:.3f}  ")
    assert second == f"{photos / 'missing.jpg'}: error: No such file."


def test_run_folder_is_a_model_and_a_missing_one_is_status_2(
    tmp_path: Path, tiny_model: Path, photos: Path, capsysbinary: Capture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best_model").symlink_to(tiny_model, target_is_directory=True)
    score(tmp_path / "run", [str(photos / "0.jpg")], as_json=True)
    assert len(json.loads(capsysbinary.readouterr().out)) == 1

    with pytest.raises(typer.Exit) as caught:
        score(tmp_path / "nowhere", [str(photos / "0.jpg")], as_json=True)
    assert caught.value.exit_code == 2
    error = json.loads(capsysbinary.readouterr().out)["error"]
    assert error["type"] == "ModelFolderError"


def test_files_are_read_in_batches_and_written_as_they_are_scored(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: Capture
) -> None:
    events: list[str] = []

    def read(path: Path) -> bytes | ImageError:
        events.append("read")
        return b"image"

    class Counting:
        def try_predict(self, images: Sequence[bytes]) -> list[None]:
            events.append("score")
            return [None for _ in images]

        def encode(self, predictions: Sequence[None]) -> list[dict[str, Any]]:
            return [{"probs": [1.0], "labels": ["a"]} for _ in predictions]

    monkeypatch.setattr(image_paths, "read_image", read)
    monkeypatch.setattr(scorer.Scorer, "load", lambda folder, num_threads: Counting())
    score(tiny_model, [f"{i}.jpg" for i in range(100)], as_json=True)
    assert len(json.loads(capsysbinary.readouterr().out)) == 100
    longest_run = max(len(run) for run in "".join(event[0] for event in events).split("s"))
    assert longest_run <= 16
    assert events.count("score") == 7


def test_what_fails_halfway_is_one_document(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: Capture
) -> None:
    calls: list[int] = []

    class Failing:
        def try_predict(self, images: Sequence[bytes]) -> list[None]:
            calls.append(len(images))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return [None for _ in images]

        def encode(self, predictions: Sequence[None]) -> list[dict[str, Any]]:
            return [{"probs": [1.0], "labels": ["a"]} for _ in predictions]

    monkeypatch.setattr(image_paths, "read_image", lambda path: b"image")
    monkeypatch.setattr(scorer.Scorer, "load", lambda folder, num_threads: Failing())
    with pytest.raises(typer.Exit):
        score(tiny_model, [f"{i}.jpg" for i in range(100)], as_json=True)
    assert json.loads(capsysbinary.readouterr().out)["error"]["type"] == "StoppedError"
