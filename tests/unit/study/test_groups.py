"""A run's groups: copies stay on one side of a split, and the data check lists them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import autofocus
from autofocus.errors import DataError, RunFolderError
from autofocus.study.study import Study
from support.photos import write_photo
from support.tiny_jobs import decisions, tiny_detection_job, tiny_job

pytestmark = pytest.mark.usefixtures("one_thread", "empty_packages")

NUM_PHOTOS = 24


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two folders of twelve different photos, each of which is there again, smaller."""
    for i in range(NUM_PHOTOS // 2):
        rough = np.random.default_rng(i).integers(0, 255, (6, 6, 3), np.uint8)
        photo = cv2.resize(rough, (96, 96), interpolation=cv2.INTER_CUBIC)
        small = cv2.resize(photo, (64, 64), interpolation=cv2.INTER_AREA)
        write_photo(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png", photo)
        write_photo(tmp_path / "photos" / "ab"[i % 2] / f"{i}_small.png", small)
    return tmp_path / "photos"


@pytest.fixture
def splits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[set[str], set[str]]]:
    """The names of the photos of each split's two sides, without what tells copies apart."""
    found = []
    split = Study.split

    def kept(study: Study) -> tuple[np.ndarray, np.ndarray]:
        parts = split(study)
        locations = study.samples.locations
        names = [{Path(locations[i]).stem.removesuffix("_small") for i in part} for part in parts]
        found.append((names[0], names[1]))
        return parts

    monkeypatch.setattr(Study, "split", kept)
    return found


def test_small_copies_of_photos_stay_with_them(
    photos: Path, tmp_path: Path, splits: list[tuple[set[str], set[str]]]
) -> None:
    for name in ("run", "again"):  # the second time features and thumbnails are in the cache
        autofocus.train(tiny_job(photos, 1), output_dir=str(tmp_path / name))
        (made,) = decisions(tmp_path / name, "groups")
        assert made["num_images"] == made["num_near_duplicates"] == NUM_PHOTOS
        assert made["num_groups"] == NUM_PHOTOS // 2
        check = json.loads((tmp_path / name / "data_check.json").read_text())
        assert check["training"]["counts"]["image.near_duplicate"] == NUM_PHOTOS // 2
    assert splits[0] == splits[1]
    assert splits[0][0].isdisjoint(splits[0][1])


def test_detectors_keep_them_together_too(
    photos: Path, tmp_path: Path, splits: list[tuple[set[str], set[str]]]
) -> None:
    box = {"label": "x", "topX": 0.2, "topY": 0.2, "bottomX": 0.8, "bottomY": 0.8}
    rows = [{"image_url": str(file), "label": [box]} for file in sorted(photos.rglob("*.png"))]
    data = tmp_path / "own.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = tiny_detection_job(tmp_path, 1, 1, training_data=str(data), image_root="/")
    autofocus.train(job, output_dir=str(tmp_path / "run"))
    (made,) = decisions(tmp_path / "run", "groups")
    assert made["num_groups"] == NUM_PHOTOS // 2
    assert splits[0][0].isdisjoint(splits[0][1])


def write_rows(photos: Path, cameras: list[str | None]) -> Path:
    files = sorted(photos.rglob("*.png"))
    rows = [
        {"image_url": str(file), "label": file.parent.name, "camera": camera}
        for file, camera in zip(files, cameras, strict=True)
    ]
    data = photos / "own.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data


def test_what_a_column_names_stays_together(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras = [f"c{i // 3 % 4}" for i in range(NUM_PHOTOS)]
    seen = []
    split = Study.split

    def kept(study: Study) -> tuple[np.ndarray, np.ndarray]:
        parts = split(study)
        records = study.samples.records
        seen.extend({records[i].group for i in part} for part in parts)
        return parts

    monkeypatch.setattr(Study, "split", kept)
    job = tiny_job(write_rows(photos, cameras), 1, image_root="/")
    autofocus.train(job, group_column="camera", output_dir=str(tmp_path / "run"))
    (made,) = decisions(tmp_path / "run", "groups")
    assert made["group_column"] == "camera"
    assert seen[0].isdisjoint(seen[1])
    assert seen[0] | seen[1] == {"c0", "c1", "c2", "c3"}
    with pytest.raises(RunFolderError, match=r"another job .*differ: data"):
        autofocus.train(job, output_dir=str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("cameras", "column", "says"),
    [
        (["hall"] * NUM_PHOTOS, "camera", r"data\.group_column: 'camera' must tell at least 2"),
        ([None] * NUM_PHOTOS, "camera", "no row has a value of 'camera'"),
        (["hall"] * NUM_PHOTOS, "kamera", "did you mean 'camera'?"),
    ],
)
def test_a_column_that_tells_nothing_is_an_error(
    photos: Path, tmp_path: Path, cameras: list[str | None], column: str, says: str
) -> None:
    job = tiny_job(write_rows(photos, cameras), 1, image_root="/")
    with pytest.raises(DataError, match=says):
        autofocus.train(job, group_column=column, output_dir=str(tmp_path / "run"))
