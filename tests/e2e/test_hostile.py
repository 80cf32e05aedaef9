"""Hostile inputs through the real commands: the right status, one clear message a problem,
and no good row lost.

`CASES` are data: a folder with four good rows gets a fifth that is not, or the file as a whole is
odd. What needs a machine in trouble (a full disk, a killed writer, a second driver) follows below
the table; hostile model folders are in `test_hostile_models.py`.
"""

import codecs
import io
import json
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autofocus.data.rows.records import RECORD_TYPES
from autofocus.manifest import read_manifest
from support.commands import command_line, invoke, run

MULTICLASS, _, DETECTION, *_ = RECORD_TYPES
NUM_GOOD = 4
BAD_LINE = NUM_GOOD + 1
BOX = {"label": "can", "topX": 0.1, "topY": 0.2, "bottomX": 0.5, "bottomY": 0.6}
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files and signals")

# (code, severity, line, path) of an issue.
Problem = tuple[str, str, int | None, str]
Rows = list[Any]


def at(code: str, path: str = "image_url", severity: str = "error") -> Problem:
    """A problem of the fifth row."""
    return (code, severity, BAD_LINE, path)


# What a folder of four images always has to say.
FEW: Problem = ("class.few_samples", "info", None, "")


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Attributes:
        spoil: Adds it to a folder of good images and rows; returns the JSONL's bytes, or None
            to write the rows.
        problems: Every issue that `data check --decode` must list, but for small classes.
        says: What the first problem's line must say besides its place.
        status: Exit status of `data check`.
        num_valid: Rows that stay usable.
        flags: More flags of `data check`.
        task: Of which task the rows are.
    """

    spoil: Callable[[Path, Rows], bytes | None]
    problems: tuple[Problem, ...] = ()
    says: tuple[str, ...] = ()
    status: int = 2
    num_valid: int = NUM_GOOD
    flags: tuple[str, ...] = ()
    task: str = MULTICLASS
    marks: tuple[Any, ...] = ()


def encoded(rows: Rows) -> bytes:
    return b"".join(
        row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows
    )


def photo(seed: int, image_format: str = "PNG") -> bytes:
    """Encode noise, of which half a file is far from whole."""
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format)
    return file.getvalue()


def image(name: str, content: bytes) -> Callable[[Path, Rows], None]:
    """The fifth row's image has this content."""

    def spoil(folder: Path, rows: Rows) -> None:
        (folder / "img" / name).write_bytes(content)
        rows.append({"image_url": f"img/{name}", "label": "can"})

    return spoil


def more(*added: Any) -> Callable[[Path, Rows], None]:
    """These rows, or bytes as they are, follow the good ones."""
    return lambda folder, rows: rows.extend(added)


def recoded(change: Callable[[bytes], bytes]) -> Callable[[Path, Rows], bytes]:
    return lambda folder, rows: change(encoded(rows))


def only(*chosen: Any) -> Callable[[Path, Rows], bytes]:
    return lambda folder, rows: encoded(list(chosen))


def huge_png(side: int) -> bytes:
    """The header of a PNG that would take gigabytes, and a few bytes of pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def folder_as_image(folder: Path, rows: Rows) -> None:
    (folder / "img" / "album.png").mkdir()
    rows.append({"image_url": "img/album.png", "label": "can"})


def link_out(folder: Path, rows: Rows) -> None:
    secret = folder.parent / "secret.png"
    secret.write_bytes(photo(9))
    (folder / "img" / "link.png").symlink_to(secret)
    rows.append({"image_url": "img/link.png", "label": "can"})


def boxes(**edges: Any) -> Callable[[Path, Rows], bytes]:
    """Detection rows; the second box of the fifth row has these edges."""

    def spoil(folder: Path, rows: Rows) -> bytes:
        good = [
            {"image_url": row["image_url"], "label": [{**BOX, "label": row["label"]}]}
            for row in rows
        ]
        (folder / "img" / "five.png").write_bytes(photo(5))
        return encoded([*good, {"image_url": "img/five.png", "label": [BOX, {**BOX, **edges}]}])

    return spoil


def renamed_label(folder: Path, rows: Rows) -> bytes:
    return encoded([{"image_url": row["image_url"], "kind": row["label"]} for row in rows])


def many_classes(folder: Path, rows: Rows) -> bytes:
    return encoded([{"image_url": f"img/{i}.png", "label": f"class {i}"} for i in range(10_000)])


JPEG = photo(7, "JPEG")
ONE = {"image_url": "img/0.png", "label": "can"}
LOST = ("source.nothing_valid", "error", None, "")
ONE_CLASS = ("class.only_one", "warning", None, "")

CASES: dict[str, Case] = {
    "a truncated image": Case(
        image("half.jpg", JPEG[: len(JPEG) // 2]), (at("image.truncated"),), ("half.jpg", "ends")
    ),
    "a zero-byte image": Case(
        image("none.png", b""), (at("image.empty"),), ("none.png", "has no bytes")
    ),
    "a PNG called .jpg": Case(
        image("really.jpg", photo(5)),
        (at("image.extension", severity="info"),),
        ("really.jpg", "PNG"),
        status=0,
        num_valid=5,
    ),
    "text called .png": Case(
        image("text.png", b"<html>404 Not Found</html>"),
        (at("image.unknown_format"),),
        ("text.png", "JPEG, PNG"),
    ),
    "a 30,000 x 30,000 PNG header": Case(
        image("bomb.png", huge_png(30_000)), (at("image.too_large"),), ("bomb.png", "30,000")
    ),
    "NaN as a coordinate": Case(
        boxes(topX=float("nan")),
        (at("coordinate.not_finite", "label[1].topX"),),
        ("label[1].topX", "NaN"),
        num_valid=5,
        task=DETECTION,
    ),
    "a number as text as a coordinate": Case(
        boxes(topX="0.25"),
        (at("coordinate.text", "label[1].topX", "warning"),),
        ("label[1].topX", "'0.25'"),
        status=0,
        num_valid=5,
        task=DETECTION,
    ),
    "a word as a coordinate": Case(
        boxes(topX="left"),
        (at("coordinate.type", "label[1].topX"),),
        ("label[1].topX", "'left'"),
        num_valid=5,
        task=DETECTION,
    ),
    "a pixel as a coordinate": Case(
        boxes(bottomX=412),
        (at("coordinate.out_of_range", "label[1].bottomX"),),
        ("label[1].bottomX", "[0, 1]", "got 412", "--absolute"),
        num_valid=5,
        task=DETECTION,
    ),
    "wrong types": Case(
        more({"image_url": 7, "label": "can"}, {"image_url": "img/0.png", "label": 1.5}, ["can"]),
        (
            at("image_url.type"),
            ("label.type", "error", BAD_LINE + 1, "label"),
            ("row.type", "error", BAD_LINE + 2, ""),
        ),
        ("image_url", "got 7"),
    ),
    "missing keys": Case(
        more({"label": "can"}, {"image_url": "img/0.png"}),
        (at("image_url.missing"), ("label.missing", "error", BAD_LINE + 1, "label")),
        ("image_url is missing", "--image-column"),
    ),
    "a trailing comma": Case(
        more(b'{"image_url": "img/0.png", "label": "can",}\n'),
        (at("json.invalid", ""),),
        ("column 42", "comma", "remove it"),
    ),
    "a byte order mark": Case(recoded(lambda text: codecs.BOM_UTF8 + text), status=0),
    "CRLF": Case(recoded(lambda text: text.replace(b"\n", b"\r\n")), status=0),
    "UTF-16": Case(
        recoded(lambda text: text.decode().encode("utf-16")),
        (("file.encoding", "info", None, ""),),
        ("should be UTF-8", "utf-16"),
        status=0,
    ),
    "a duplicate URL": Case(
        more({"image_url": "img/0.png", "label": "carton"}),
        (at("image_url.repeated", severity="warning"),),
        ("img/0.png", "line 1 has it too"),
        status=0,
        num_valid=5,
    ),
    "a folder as an image": Case(folder_as_image, (at("file.directory"),), ("album.png", "folder")),
    "a link out of the root": Case(
        link_out,
        (at("url.outside_root"),),
        ("img/link.png", "secret.png", "--image-root"),
        marks=(posix,),
    ),
    "an empty file": Case(
        only(), (("source.empty", "error", None, ""),), ("has no rows",), num_valid=0
    ),
    "one class": Case(
        recoded(lambda text: text.replace(b"carton", b"can")),
        (ONE_CLASS,),
        ("one class, 'can'", "at least two"),
        status=0,
    ),
    "one image": Case(only(ONE), (ONE_CLASS,), ("one class, 'can'",), status=0, num_valid=1),
    "10,000 classes": Case(many_classes, status=0, num_valid=10_000, flags=("--no-images",)),
    "a label column by another name": Case(
        renamed_label,
        (*(("label.missing", "error", i, "label") for i in range(1, 5)), LOST),
        ("label is missing", "image_url, kind", "--target-column"),
        num_valid=0,
    ),
    "that column named": Case(renamed_label, status=0, flags=("--target-column", "kind")),
    "a Windows path": Case(
        more({"image_url": "C:\\photos\\1.png", "label": "can"}),
        (at("url.windows_path"),),
        ("C:\\photos\\1.png", '--map "C:\\photos='),
        marks=(posix,),
    ),
}


def write_case(folder: Path, case: Case) -> Path:
    """Write the good rows and what is hostile; return the JSONL file."""
    data = folder / "data"
    (data / "img").mkdir(parents=True)
    rows: Rows = []
    for i in range(NUM_GOOD):
        (data / "img" / f"{i}.png").write_bytes(photo(i))
        rows.append({"image_url": f"img/{i}.png", "label": "carton" if i % 2 else "can"})
    content = case.spoil(data, rows)
    path = data / "rows.jsonl"
    path.write_bytes(encoded(rows) if content is None else content)
    return path


def cases() -> list[Any]:
    return [pytest.param(name, marks=case.marks) for name, case in CASES.items()]


@pytest.mark.parametrize("name", cases())
def test_data_check_says_each_problem_once(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = write_case(tmp_path, case)
    depth = () if "--no-images" in case.flags else ("--decode",)
    task = () if name == "an empty file" else ("--task", case.task)
    checked = invoke("data", "check", path, *task, *depth, *case.flags, "--json")
    document = json.loads(checked.stdout)
    assert checked.exit_code == case.status
    assert checked.stderr == ""
    assert document["num_valid"] == case.num_valid
    found = [
        (issue["code"], issue["severity"], issue["line"], issue["path"])
        for issue in document["issues"]
    ]
    assert [problem for problem in found if problem != FEW] == list(case.problems)

    shown = invoke("data", "check", path, *task, *depth, *case.flags)
    assert shown.exit_code == case.status
    lines = [line for line in shown.stdout.splitlines() if str(path) in line and ": " in line]
    for code, severity, line, _ in case.problems[:1]:
        place = str(path) if line is None else f"{path}:{line}"
        (told,) = [t for t in lines if t.startswith(f"{severity}: {place}") and "class 'c" not in t]
        assert all(word in told for word in case.says), (code, told)
    assert len(shown.stdout) < 6_000, "a person reads this"


# What `train` must refuse at once, and in which words; the rest it skips, see below.
REFUSED = {
    "an empty file": "has no rows",
    "a label column by another name": "none of its 4 rows can be used",
}


@pytest.mark.parametrize("name", REFUSED)
def test_train_refuses_what_holds_nothing(name: str, tmp_path: Path) -> None:
    path = write_case(tmp_path, CASES[name])
    output = tmp_path / "run"
    command = ("train", "--task", MULTICLASS, "--data", path, "--output-dir", output)
    refused = invoke(*command, "--json")
    assert refused.exit_code == 2
    document = json.loads(refused.stdout)
    assert document["error"]["type"] == "DataError"
    assert REFUSED[name] in document["error"]["problems"][-1]
    assert not output.exists()


def test_on_invalid_error_refuses_what_would_be_skipped(tmp_path: Path) -> None:
    path = write_case(tmp_path, CASES["missing keys"])
    command = ("train", "--task", MULTICLASS, "--data", path, "--output-dir", tmp_path / "run")
    refused = invoke(*command, "--set", "data.on_invalid=error")
    assert refused.exit_code == 2
    assert [line.split(" ")[1] for line in refused.stderr.splitlines() if "error: " in line] == [
        f"{path}:{BAD_LINE}:",
        f"{path}:{BAD_LINE + 1}:",
        f"{path}:",
    ]


TINY = (
    *("--model", "test_resnet", "--weights", "random", "--device", "cpu"),
    *("--set", "training_parameters.validation_crop_size=64"),
    *("--set", "training_parameters.number_of_epochs=0"),
)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One multi-class file with the four good rows and every row that `train` skips or mends."""
    folder = tmp_path_factory.mktemp("all")
    data = folder / "data"
    (data / "img").mkdir(parents=True)
    rows: Rows = []
    for i in range(NUM_GOOD):
        (data / "img" / f"{i}.png").write_bytes(photo(i))
        rows.append({"image_url": f"img/{i}.png", "label": "carton" if i % 2 else "can"})
    for case in CASES.values():
        if case.task == MULTICLASS and not (sys.platform == "win32" and case.marks):
            spoilt = rows[:NUM_GOOD]
            case.spoil(data, spoilt)
            rows += spoilt[NUM_GOOD:]
    path = data / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + encoded(rows).replace(b"\n", b"\r\n"))
    return path


@posix
def test_train_goes_on_with_every_good_row(everything: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    command = ("train", "--task", MULTICLASS, "--data", everything, "--output-dir", output)
    done = run(*command, *TINY, "--json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    result = json.loads(done.stdout)
    manifest = read_manifest(Path(result["best_model"]))
    # The PNG that is called .jpg is as good as the four; the repeated row is one of them.
    kept = manifest.data.num_training + manifest.data.num_validation
    assert kept == NUM_GOOD + 1
    counts = json.loads((output / "data_check.json").read_bytes())["training"]["counts"]
    expected = {
        problem[0]
        for case in CASES.values()
        if case.task == MULTICLASS
        for problem in case.problems
        if problem[1] == "error" and problem[0] not in ("source.empty", "source.nothing_valid")
    }
    assert expected <= set(counts)
    for code in expected - {"image.truncated", "image.unknown_format", "image.too_large"}:
        (line,) = [line for line in done.stderr.splitlines() if f"x {code}, first: " in line]
        assert f"{everything}:" in line


def test_score_keeps_the_place_of_every_bad_image(tiny_model: Path, tmp_path: Path) -> None:
    images = {
        "good.png": (photo(1), None),
        "half.jpg": (JPEG[: len(JPEG) // 2], "image.truncated"),
        "none.png": (b"", "image.empty"),
        "really.jpg": (photo(2), None),
        "text.png": (b"<html>404 Not Found</html>", "image.unknown_format"),
        "bomb.png": (huge_png(30_000), "image.too_large"),
    }
    for name, (content, _) in images.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in images]
    scored = invoke("score", tiny_model, *paths, tmp_path / "gone.png", "--json")
    assert scored.exit_code == 0
    codes = [row["error"]["code"] if "error" in row else None for row in json.loads(scored.stdout)]
    assert codes == [*(code for _, code in images.values()), "image.missing"]
    none = invoke("score", tiny_model, *paths[1:3], "--json")
    assert none.exit_code == 2
    assert len(json.loads(none.stdout)) == 2
    (tmp_path / "album.png").mkdir()
    folder = invoke("score", tiny_model, tmp_path / "album.png")
    assert folder.exit_code == 2
    assert "album.png: has no image files" in folder.stderr


def limit_files(num_bytes: int) -> Callable[[], None]:
    """Let no file grow beyond `num_bytes`: what a full disk does, for one process."""
    import resource  # not on Windows

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


@posix
@pytest.mark.parametrize("command", ["convert", "check"])
def test_a_full_disk_while_rows_are_written(command: str, tmp_path: Path) -> None:
    path = write_case(tmp_path, CASES["missing keys"])
    path.write_bytes(path.read_bytes() + b"{}\n" * 500)
    output = tmp_path / "out"
    done = run(
        *("data", command, path, "-o", output, "--task", MULTICLASS),
        preexec_fn=limit_files(4_096),
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    written = {"convert": "dropped.jsonl", "check": "issues.jsonl"}[command]
    assert line == f"error: {output / written}: File too large. Make room, or write elsewhere."
    assert not [file for file in output.iterdir() if not file.name.endswith(".jsonl")]
    assert not (output / written).exists()


@posix
def test_a_full_disk_while_the_model_is_written(everything: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    command = ("train", "--task", MULTICLASS, "--data", everything, "--output-dir", output, *TINY)
    done = run(*command, "--json", preexec_fn=limit_files(100_000))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert str(output) in line
    assert list(json.loads(done.stdout)) == ["error"]
    assert not list((output / "models").iterdir())
    assert not (output / "best_model").exists()


@dataclass
class Killed:
    """A driver that was killed while it wrote its model, and a second one beside it."""

    command: tuple[object, ...]
    run: Path
    second: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def killed(everything: Path, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    output = tmp_path_factory.mktemp("killed") / "run"
    command = ("train", "--task", MULTICLASS, "--data", everything, "--output-dir", output, *TINY)
    first = subprocess.Popen(
        command_line(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # A hidden folder is a model that is being written.
    while not list((output / "models").glob(".*")):
        assert first.poll() is None, "it ended before it wrote a model"
        time.sleep(0.005)
    first.send_signal(signal.SIGSTOP)
    assert not (output / "models" / "1").exists()
    second = run(*command)
    first.kill()
    first.wait()
    return Killed(command, output, second)


@posix
def test_a_second_driver_is_refused(killed: Killed) -> None:
    assert killed.second.returncode == 2
    (line,) = [line for line in killed.second.stderr.splitlines() if line.startswith("error: ")]
    assert "another autofocus is running in this folder (process " in line
    assert "--output-dir" in line


@posix
def test_a_killed_writer_leaves_nothing_half_written(killed: Killed, tmp_path: Path) -> None:
    assert not (killed.run / "best_model").exists()
    refused = invoke("serve", killed.run, "--port", "0")
    assert refused.exit_code == 2
    assert "has no best_model yet" in refused.stderr
    done = run(*killed.command, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [path.name for path in (killed.run / "models").iterdir()] == ["1"]
    (tmp_path / "a.png").write_bytes(photo(1))
    scored = invoke("score", result["run"], tmp_path / "a.png", "--json")
    assert scored.exit_code == 0
    assert json.loads(scored.stdout)[0]["labels"] == ["can", "carton"]


KILL_BEFORE_PUBLISHING = """
import os, signal, sys
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from autofocus.cli.__main__ import main
main()
"""


@posix
def test_a_killed_conversion_shows_no_half_file(tmp_path: Path) -> None:
    path = write_case(tmp_path, CASES["missing keys"])
    output = tmp_path / "out"
    arguments = ["data", "convert", str(path), "-o", str(output)]
    process = subprocess.run(
        [sys.executable, "-c", KILL_BEFORE_PUBLISHING, *arguments], check=False
    )
    assert process.returncode == -signal.SIGKILL
    assert not [file for file in output.iterdir() if not file.name.startswith(".")]
    done = invoke(*arguments)
    assert done.exit_code == 0, done.output
    rows = (output / "train.jsonl").read_text().splitlines()
    assert len(rows) == NUM_GOOD
    assert len((output / "dropped.jsonl").read_text().splitlines()) == 2
