"""Run folders: one owner, one driver, atomic changes."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from autofocus.errors import RunFolderError
from autofocus.study.folder.run_folder import Leaderboard, RunFolder, driver_of, identity

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


@pytest.mark.parametrize("left", ["trials/0/trial.json", "models/1/manifest.json"])
def test_a_run_that_failed_before_its_first_trial_blocks_nothing(tmp_path: Path, left: str) -> None:
    with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
        folder.decide("default_model", model="a")
    with RunFolder(tmp_path, {**JOB, "seed": 1}, "data", overwrite=False) as folder:
        assert folder.decided("default_model") is None
        (tmp_path / left).parent.mkdir(parents=True)
        (tmp_path / left).write_text("{}")
    with pytest.raises(RunFolderError, match="these keys differ: seed"):
        RunFolder(tmp_path, JOB, "data", overwrite=False)


@pytest.mark.parametrize("left", ["trials/0/trial.json", "trials/0/last/model", "models/1/a"])
def test_images_that_were_replaced_matter_once_something_came_of_them(
    tmp_path: Path, left: str
) -> None:
    photo = tmp_path / "a.png"
    photo.write_bytes(b"1")
    with RunFolder(tmp_path / "run", JOB, "data", overwrite=False) as folder:
        folder.images.note([str(photo)], ["an older tag"], ["an older hash"])
        folder.refuse_changed_images([str(photo)])
        folder.images.note([str(photo)], ["an older tag"], ["another hash"])
        (tmp_path / "run" / left).parent.mkdir(parents=True)
        (tmp_path / "run" / left).write_text("{}")
        with pytest.raises(RunFolderError, match="the data changed"):
            folder.refuse_changed_images([str(photo)])


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


def test_a_look_at_a_folder_refuses_no_driver(tmp_path: Path) -> None:
    """`driver_of` tries the lock, for a moment, whenever a run is listed or followed."""
    look = FileLock(tmp_path / "lock", thread_local=False)
    look.acquire()
    threading.Timer(0.05, look.release).start()
    with RunFolder(tmp_path, JOB, "data", overwrite=False):
        assert driver_of(tmp_path) == os.getpid()


def test_a_killed_driver_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path;"
        "from autofocus.study.folder.run_folder import RunFolder;"
        f"RunFolder(Path({str(tmp_path)!r}), {JOB!r}, 'data', False);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -9
    with RunFolder(tmp_path, JOB, "data", overwrite=False):
        pass


def test_half_a_decision_spoils_no_other(tmp_path: Path) -> None:
    """A kill or a full disk leaves it; the next driver goes on behind it."""
    with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
        folder.decide("default_model", model="a")
    with (tmp_path / "decisions.jsonl").open("ab") as file:
        file.write(b'{"decision":"default_')
    for name in ("second", "third"):
        with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
            assert folder.decided("default_model") == {"decision": "default_model", "model": "a"}
            folder.decide(name)
            assert folder.decided(name) == {"decision": name}


def make_model(run: Path, name: str) -> Path:
    model = run / "models" / name
    model.mkdir(parents=True)
    (model / "who").write_text(name)
    return model


def models_of(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "models").iterdir())


def test_half_written_models_are_swept_away(tmp_path: Path) -> None:
    with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
        folder.publish(make_model(tmp_path, "1"), trial="0")
    make_model(tmp_path, ".2")
    with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
        assert models_of(tmp_path) == ["1"]
        assert folder.next_model_dir().name == "2"


@pytest.mark.parametrize("has_links", [True, False])
def test_a_kill_at_any_moment_of_publishing_leaves_no_model_over(
    tmp_path: Path, has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before, between and after the swap and the note of who was published."""

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    if not has_links:
        monkeypatch.setattr(Path, "symlink_to", refused)
    for moment, kept in (("rename", ["1"]), ("note", ["1", "2"]), ("never", ["1", "2"])):
        run = tmp_path / moment
        with RunFolder(run, JOB, "data", overwrite=False) as folder:
            folder.publish(make_model(run, "1"), trial="0")
            model = make_model(run, "2")
            if moment != "rename":
                original = folder.write_json
                folder.write_json = lambda name, document, original=original, moment=moment: (  # type: ignore[method-assign]
                    killed()
                    if "published" in name and moment == "note"
                    else original(name, document)
                )
                with contextlib.suppress(Killed):
                    folder.publish(model, trial="1")
        with RunFolder(run, JOB, "data", overwrite=False) as folder:
            assert models_of(run) == kept
            assert (run / "best_model" / "who").read_text() == kept[-1]
            assert folder.is_best_model(run / "models" / kept[-1])
            assert not folder.is_best_model(run / "models" / "7")


def test_a_trial_that_is_published_anew_leaves_its_former_model(tmp_path: Path) -> None:
    with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
        for name, trial in (("1", "0"), ("2", "1"), ("3", "1")):
            folder.publish(make_model(tmp_path, name), trial)
        assert models_of(tmp_path) == ["1", "3"]
        assert folder.published("1") == tmp_path / "models" / "3"


def refused(*_: object, **__: object) -> None:
    raise OSError("symlinks are not permitted")


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


def row(name: str, value: float | None, seconds: float = 1.0) -> dict:
    return {"id": name, "value": value, "seconds": seconds}


def ids(board: Leaderboard) -> list[str]:
    return [entry["id"] for entry in json.loads(board.json())]


def test_best_first_then_by_number_and_the_undefined_last() -> None:
    board = Leaderboard()
    for entry in (row("10", 0.5), row("2", 0.5), row("3", None), row("0", 0.9), row("probe", 0.5)):
        board.add(entry)
    assert ids(board) == ["0", "probe", "2", "10", "3"]


def test_order_of_arrival_changes_no_byte() -> None:
    rows = [row("0", 0.1), row("1", None), row("2", -0.3), row("3", 0.1), row("4", 0.0)]
    boards = []
    for order in (rows, rows[::-1]):
        board = Leaderboard()
        for number, entry in enumerate(order):
            board.add(entry | {"seconds": number * 1.5})
        boards.append(board.json())
    assert boards[0] == boards[1]
    assert b"seconds" not in boards[0]


def test_a_row_takes_the_place_of_what_was_known_of_its_trial() -> None:
    board = Leaderboard()
    for value in (0.2, 0.9, None):
        board.add(row("0", value))
        board.add(row("1", 0.5))
        assert sorted(ids(board)) == ["0", "1"]
    assert ids(board) == ["1", "0"]


def test_empty_is_json_too() -> None:
    assert json.loads(Leaderboard().json()) == []


@pytest.mark.parametrize("number", [0, 2, "two", None])
def test_a_run_of_another_format_is_refused_in_one_line(tmp_path: Path, number: object) -> None:
    with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
        folder.write_json("run.json", {"identity": identity(JOB, "data"), "format": number})
    with pytest.raises(RunFolderError) as refused:
        RunFolder(tmp_path, JOB, "data", overwrite=False)
    (line,) = str(refused.value).splitlines()
    assert f"{tmp_path}: holds a run of format {number}" in line
    assert "reads format 1" in line
    assert "--overwrite" in line
    with RunFolder(tmp_path, JOB, "data", overwrite=True):
        assert json.loads((tmp_path / "run.json").read_bytes())["format"] == 1


def test_a_run_of_another_format_is_as_it_was_after_it_was_refused(tmp_path: Path) -> None:
    text = json.dumps({"format": 2})
    (tmp_path / "run.json").write_text(text)
    (tmp_path / "models" / ".3").mkdir(parents=True)
    with pytest.raises(RunFolderError, match="format 2"):
        RunFolder(tmp_path, JOB, "data", overwrite=False)
    assert (tmp_path / "run.json").read_text() == text
    assert models_of(tmp_path) == [".3"]


def test_a_run_from_before_formats_had_a_number_goes_on(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"identity": identity(JOB, "data")}))
    (tmp_path / "result.json").write_text('{"value": 1}')
    with RunFolder(tmp_path, JOB, "data", overwrite=False) as folder:
        assert folder.result() == {"value": 1}
    assert json.loads((tmp_path / "run.json").read_bytes())["format"] == 1


def test_a_run_that_does_not_say_which_it_is_is_refused(tmp_path: Path) -> None:
    for text in ("{", "[]"):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(RunFolderError, match="does not say which run"):
            RunFolder(tmp_path, JOB, "data", overwrite=False)


LIMITED = {**JOB, "search_space": [{}], "limits": {"max_trials": 4, "max_concurrent_trials": 1}}


def test_more_time_and_more_trials_are_the_same_run() -> None:
    more = {**LIMITED, "budget": 600.0, "limits": {**LIMITED["limits"], "max_trials": 9}}
    assert identity(more, "d") == identity(LIMITED, "d")
    longer = {**more, "limits": {**more["limits"], "timeout_minutes": 5.0}}
    assert identity(longer, "d") == identity(LIMITED, "d")
    beside = {**LIMITED, "limits": {"max_trials": 4, "max_concurrent_trials": 2}}
    assert identity(beside, "d") != identity(LIMITED, "d")


def test_one_trial_of_the_jobs_own_recipe_is_another_run_than_several(tmp_path: Path) -> None:
    one, many = ({**JOB, "limits": {"max_trials": n}} for n in (1, 9))
    assert identity(one, "d") != identity(many, "d")
    assert identity(many, "d") == identity({**JOB, "limits": {}}, "d")
    with RunFolder(tmp_path, one, "data", overwrite=False) as folder:
        folder.finish({"value": 1})
    with pytest.raises(RunFolderError, match=r"these keys differ: limits\.max_trials\)"):
        RunFolder(tmp_path, many, "data", overwrite=False)


def test_a_finished_run_keeps_its_result_until_it_has_another(tmp_path: Path) -> None:
    more = {**LIMITED, "budget": 600.0}
    with RunFolder(tmp_path, LIMITED, "data", overwrite=False) as folder:
        folder.finish({"value": 1})
    with RunFolder(tmp_path, more, "data", overwrite=False) as folder:
        assert "budget" not in (tmp_path / "job.yml").read_text(), "it may have nothing to do"
        folder.set_result_aside()
        assert "budget: 600.0" in (tmp_path / "job.yml").read_text()
    with RunFolder(tmp_path, more, "data", overwrite=False) as folder:
        assert folder.result() is None
        assert folder.earlier_result() == {"value": 1}
        folder.write_json("result.json", {"value": 2})
    # Killed before the earlier one was removed.
    with RunFolder(tmp_path, more, "data", overwrite=False) as folder:
        assert folder.earlier_result() is None
        assert folder.result() == {"value": 2}


def test_only_the_row_that_is_served_says_so_and_why() -> None:
    board = Leaderboard()
    board.add(row("0", 0.9))
    for served in ("0", "1", "1"):
        board.serve(served, f"why {served}")
        board.add(row("1", 0.5))
    rows = json.loads(board.json())
    assert rows == [
        {"id": "0", "value": 0.9},
        {"id": "1", "value": 0.5, "served": True, "why": "why 1"},
    ]
