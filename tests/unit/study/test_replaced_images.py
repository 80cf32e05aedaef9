"""Photos that were replaced under their names are other data, whenever a run comes back to them."""

import os
import shutil
from pathlib import Path

import pytest

import autofocus
from autofocus.errors import RunFolderError
from autofocus.study.folder.seen_images import SeenImages
from support.tiny_jobs import tiny_detection_job, tiny_job


def swap(one: Path, other: Path) -> None:
    shutil.move(one, one.with_suffix(".tmp"))
    shutil.move(other, one)
    shutil.move(one.with_suffix(".tmp"), other)


@pytest.mark.parametrize("role", ["training", "validation", "test"])
def test_a_classifiers_run_is_not_taken_up_with_other_photos(
    photo_folder: Path, tmp_path: Path, role: str
) -> None:
    """Class names and file names are as before; each photo of two classes is another one."""
    for name in ("training", "validation", "test"):
        shutil.copytree(photo_folder, tmp_path / name)
    given = {"validation_data": str(tmp_path / "validation"), "test_data": str(tmp_path / "test")}
    job = tiny_job(tmp_path / "training", 1, output_dir=str(tmp_path / "run"), **given)
    first = autofocus.train(job)
    for file in (tmp_path / role).rglob("*.png"):
        os.utime(file, ns=(1, 1))
    assert autofocus.train(job) == first, "touched, not changed"
    swap(tmp_path / role / "red", tmp_path / role / "blue")
    with pytest.raises(RunFolderError, match="the data changed: 16 images are others"):
        autofocus.train(job)
    swap(tmp_path / role / "red", tmp_path / role / "blue")
    assert autofocus.train(job) == first


def test_a_detectors_run_is_not_taken_up_with_other_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    job = tiny_detection_job(tmp_path, 6, 2, output_dir=str(run))
    autofocus.train(job)
    swap(tmp_path / "0.png", tmp_path / "1.png")
    with pytest.raises(RunFolderError, match="the data changed: 2 images are others"):
        autofocus.train(job)
    # A copy that keeps sizes and times shows once it is read.
    (run / "result.json").unlink()
    monkeypatch.setattr(SeenImages, "refuse_changed", lambda *_: None)
    with pytest.raises(RunFolderError, match="the data changed: 2 images are others"):
        autofocus.train(job)
    assert autofocus.train(job, overwrite=True)["run"] == str(run)
