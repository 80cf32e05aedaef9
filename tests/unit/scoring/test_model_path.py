import os
from pathlib import Path

import pytest

from autofocus.errors import ModelFolderError, RunFolderError
from autofocus.scoring.model_path import resolve_model


def write_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def test_model_folder_is_itself(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    assert resolve_model(model) == model.resolve()


def test_run_folder_means_its_best_model_with_links_resolved(tmp_path: Path) -> None:
    model = write_model(tmp_path / "run" / "models" / "3")
    os.symlink("models/3", tmp_path / "run" / "best_model", target_is_directory=True)
    assert resolve_model(tmp_path / "run") == model.resolve()
    assert resolve_model(str(tmp_path / "run" / "best_model")) == model.resolve()


def test_run_folder_with_a_copied_best_model(tmp_path: Path) -> None:
    model = write_model(tmp_path / "run" / "best_model")
    assert resolve_model(tmp_path / "run") == model.resolve()


def test_what_is_no_model_is_named_with_the_way_on(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"nowhere: no such folder.*autofocus train"):
        resolve_model(tmp_path / "nowhere")

    file = write_model(tmp_path / "model") / "manifest.json"
    with pytest.raises(ModelFolderError, match=r"is a file.*Did you mean .*model\?"):
        resolve_model(file)

    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFolderError, match="neither a model folder"):
        resolve_model(tmp_path / "empty")

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "job.yml").write_text("task: x")
    with pytest.raises(ModelFolderError, match="has no best_model yet"):
        resolve_model(tmp_path / "run")
    os.symlink("models/1", tmp_path / "run" / "best_model", target_is_directory=True)
    with pytest.raises(ModelFolderError, match="has no best_model yet"):
        resolve_model(tmp_path / "run")


def test_a_run_of_another_format_is_refused_but_not_its_model(tmp_path: Path) -> None:
    model = write_model(tmp_path / "run" / "best_model")
    (tmp_path / "run" / "run.json").write_text('{"format": 2}')
    with pytest.raises(RunFolderError, match=r"run: holds a run of format 2.*reads format 1"):
        resolve_model(tmp_path / "run")
    assert resolve_model(model) == model.resolve()
