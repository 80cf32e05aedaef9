"""Run folders: one owner, one driver, atomic changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autofocus.errors import RunFolderError
from autofocus.sweep.run_folder import RunFolder, identity

JOB = {"task": "t", "seed": 0, "output_dir": "x"}


def test_same_job_comes_back_to_its_result(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", JOB, "data", overwrite=False) as folder:
        assert folder.result() is None
        folder.write_json("result.json", {"value": 1})
    with RunFolder(tmp_path / "run", JOB, "data", overwrite=False) as folder:
        assert folder.result() == {"value": 1}


def test_another_job_is_refused_naming_the_keys(tmp_path: Path) -> None:
    with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
        folder.write_json("result.json", {"value": 1})
    with pytest.raises(RunFolderError, match=r"these keys differ: seed.*--overwrite"):
        RunFolder(tmp_path, {**JOB, "seed": 1}, "data", overwrite=False)
    with pytest.raises(RunFolderError, match="the data changed"):
        RunFolder(tmp_path, JOB, "other data", overwrite=False)
    with RunFolder(tmp_path, {**JOB, "seed": 1}, "data", overwrite=True) as folder:
        assert folder.result() is None


def test_where_it_is_written_does_not_change_what_it_is() -> None:
    assert identity(JOB, "d") == identity({**JOB, "output_dir": "y"}, "d")
    assert identity(JOB, "d") != identity({**JOB, "seed": 1}, "d")


def test_second_driver_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path, JOB, "data", overwrite=False),
        pytest.raises(RunFolderError, match=f"another autofocus is running .*{os.getpid()}"),
    ):
        RunFolder(tmp_path, JOB, "data", overwrite=False)
    with RunFolder(tmp_path, JOB, "data", overwrite=False):
        pass


def test_a_killed_driver_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path;"
        "from autofocus.sweep.run_folder import RunFolder;"
        f"RunFolder(Path({str(tmp_path)!r}), {JOB!r}, 'data', False);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -9
    with RunFolder(tmp_path, JOB, "data", overwrite=False):
        pass


def test_half_written_models_are_swept_away(tmp_path: Path) -> None:
    (tmp_path / "models" / ".2").mkdir(parents=True)
    (tmp_path / "models" / "1").mkdir()
    with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
        assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["1"]
        assert folder.next_model_dir().name == "2"


def test_best_model_is_swapped_as_a_relative_link(tmp_path: Path) -> None:
    with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
        for name in ("1", "2"):
            (tmp_path / "models" / name).mkdir(parents=True)
            link = folder.publish(tmp_path / "models" / name, trial=name)
            assert os.readlink(link) == f"models/{name}"
        assert folder.published("1") == tmp_path / "models" / "1"
        assert folder.published("3") is None


def test_without_symlinks_best_model_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("symlinks are not permitted")

    monkeypatch.setattr(Path, "symlink_to", refused)
    with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
        for name in ("1", "2"):
            model = tmp_path / "models" / name
            model.mkdir(parents=True)
            (model / "who").write_text(name)
            link = folder.publish(model, trial=name)
        assert not link.is_symlink()
        assert (link / "who").read_text() == "2"
        assert json.loads((tmp_path / "best_model.json").read_bytes()) == {"model": "models/2"}


def test_decisions_are_appended(tmp_path: Path) -> None:
    with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
        folder.decide("split", seed=1)
        folder.decide("probe", c=2.0)
    lines = (tmp_path / "decisions.jsonl").read_text().splitlines()
    assert [json.loads(line)["decision"] for line in lines] == ["split", "probe"]
