"""An output at whatever moment a kill came: whole lines stay, others go, nothing is mixed."""

from collections.abc import Iterable
from pathlib import Path

import orjson
import pytest

from autofocus.batch.entries import Entry
from autofocus.batch.output import BatchOutput, Survey
from autofocus.errors import InputError

NAMES = ["a.jpg", "b.jpg", "c.jpg"]
OF = {"MODEL": "m", "SOURCE": ["photos"]}


def entries(names: Iterable[str] = NAMES) -> list[Entry]:
    return [Entry(name, name) for name in names]


def line(name: str, **more: object) -> bytes:
    return orjson.dumps({"filename": name, "probs": [1.0], **more}) + b"\n"


def surveyed(names: Iterable[str] = NAMES) -> Survey:
    survey = Survey()
    list(survey.counted(entries(names)))
    return survey


def begin(path: Path, *lines: bytes) -> None:
    with BatchOutput(path, OF) as out:
        out.resume(iter(entries()))
        out.write(lines)


def complete(path: Path) -> None:
    with BatchOutput(path, OF) as out:
        out.resume(iter(entries()))
        out.write(map(line, NAMES))
        out.finish(surveyed(), {"num_images": 3, "num_failed": 0}, None)


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_line_that_was_cut_off_is_removed(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "out.jsonl"
    begin(path, line("a.jpg"), line("b.jpg")[:cut])
    with BatchOutput(path, OF) as out:
        rest = iter(entries())
        assert out.resume(rest) == (1, 0)
        assert [entry.name for entry in rest] == ["b.jpg", "c.jpg"]
        out.write([line("b.jpg"), line("c.jpg")])
        out.finish(surveyed(), {}, None)
    assert path.read_bytes() == b"".join(map(line, NAMES))
    assert not out.partial.exists()


def test_what_follows_a_damaged_line_is_scored_again(tmp_path: Path) -> None:
    # A crash of the machine may leave zeros where a page was not written.
    begin(tmp_path / "out.jsonl", line("a.jpg"), b"\0" * 20 + b"\n", line("c.jpg"))
    with BatchOutput(tmp_path / "out.jsonl", OF) as out:
        assert out.resume(iter(entries())) == (1, 0)
    assert out.partial.read_bytes() == line("a.jpg")


def test_failed_images_are_counted_again(tmp_path: Path) -> None:
    begin(tmp_path / "o", line("a.jpg"), line("b.jpg", error={"code": "x", "message": "y"}))
    with BatchOutput(tmp_path / "o", OF) as out:
        assert out.resume(iter(entries())) == (2, 1)


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (["a.jpg", "new.jpg", "b.jpg"], "line 2 is of b.jpg.* is new.jpg by now"),
        (["a.jpg"], "line 2 is of b.jpg.* is not there any more"),
    ],
)
def test_changed_sources_are_refused(tmp_path: Path, now: list[str], why: str) -> None:
    begin(tmp_path / "o", line("a.jpg"), line("b.jpg"))
    with BatchOutput(tmp_path / "o", OF) as out, pytest.raises(InputError, match=why):
        out.resume(iter(entries(now)))
    assert out.partial.read_bytes() == line("a.jpg") + line("b.jpg")


def test_another_batch_is_refused_by_what_differs(tmp_path: Path) -> None:
    begin(tmp_path / "o", line("a.jpg"))
    with pytest.raises(InputError, match="MODEL was m, now n") as caught:
        BatchOutput(tmp_path / "o", {**OF, "MODEL": "n"})
    assert "SOURCE" not in str(caught.value)
    assert "--overwrite" in str(caught.value)
    with BatchOutput(tmp_path / "o", {**OF, "MODEL": "n"}, overwrite=True) as out:
        assert out.partial.read_bytes() == line("a.jpg"), "the new batch may still be refused"
        assert out.resume(iter(entries())) == (0, 0)
    assert out.partial.read_bytes() == b""


@pytest.mark.parametrize("name", ["o", "o.partial"])
def test_files_of_others_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("somebody's")
    with pytest.raises(InputError, match="is there already"):
        BatchOutput(tmp_path / "o", OF)
    assert (tmp_path / name).read_text() == "somebody's"


@pytest.mark.parametrize("text", ["{", '{"of": 3}'])
def test_a_damaged_description_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "o.batch.json").write_text(text)
    with pytest.raises(InputError, match=r"o\.batch\.json: is damaged"):
        BatchOutput(tmp_path / "o", OF)


def test_a_file_put_in_the_place_of_a_half_done_batch_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "o", line("a.jpg"))
    (tmp_path / "o").write_text("somebody's")
    with pytest.raises(InputError, match="half done"):
        BatchOutput(tmp_path / "o", OF)


def test_a_complete_output_is_left_alone(tmp_path: Path) -> None:
    complete(tmp_path / "o")
    before = (tmp_path / "o").read_bytes()
    with BatchOutput(tmp_path / "o", OF) as out:
        assert out.summary(surveyed()) == {"num_images": 3, "num_failed": 0}
        with pytest.raises(InputError, match=r"complete with 3 images.* 4 or others"):
            out.summary(surveyed([*NAMES, "d.jpg"]))
    assert (tmp_path / "o").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == [".o.lock", "o", "o.batch.json"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_around_the_table_leaves_one(tmp_path: Path, moment: str) -> None:
    class KilledError(Exception):
        pass

    def convert(lines: Path, path: Path) -> None:
        if moment == "after":
            path.write_bytes(lines.read_bytes())
        raise KilledError

    path = tmp_path / "o.csv"
    with BatchOutput(path, OF) as out:
        out.resume(iter(entries()))
        out.write(map(line, NAMES))
        with pytest.raises(KilledError):
            out.finish(surveyed(), {"num_images": 3}, convert)
    with BatchOutput(path, OF) as out:
        if moment == "after":
            assert out.summary(surveyed()) == {"num_images": 3}
            assert not out.partial.exists()
        else:
            assert out.summary(surveyed()) is None
            assert out.resume(iter(entries())) == (3, 0)


def test_two_commands_do_not_write_one_output(tmp_path: Path) -> None:
    with BatchOutput(tmp_path / "o", OF), pytest.raises(InputError, match="another autofocus"):
        BatchOutput(tmp_path / "o", OF)
    with BatchOutput(tmp_path / "o", OF):
        pass
