"""How a command ends: one line for people, one document for machines, the status of design §1."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from autofocus.cli.output import command, emit_json, never_fail_on_a_character
from autofocus.errors import DataError, StoppedError, VerificationError

# error -> (status, type in the document, lines on stderr)
ENDS = [
    (
        DataError(["a is wrong.", "b is too."]),
        2,
        "DataError",
        ["error: a is wrong.", "error: b is too."],
    ),
    (VerificationError("differs"), 1, "VerificationError", ["error: differs"]),
    (StoppedError("stopped; go on"), 130, "StoppedError", ["error: stopped; go on"]),
    (KeyboardInterrupt(), 130, "StoppedError", ["stopped"]),
    (MemoryError("9 GB"), 1, "AutofocusError", ["error: out of memory: 9 GB"]),
    (
        OSError(errno.ENOSPC, "No space left on device", "runs/a"),
        1,
        "AutofocusError",
        ["error: runs/a: No space left on device. Make room, or write elsewhere."],
    ),
    (
        PermissionError(errno.EACCES, "Permission denied", "runs/a"),
        1,
        "AutofocusError",
        ["error: runs/a: Permission denied."],
    ),
]


@pytest.mark.parametrize(("error", "status", "kind", "lines"), ENDS, ids=[e[2] for e in ENDS])
@pytest.mark.parametrize("as_json", [False, True])
def test_every_end_is_told_once(
    error: BaseException,
    status: int,
    kind: str,
    lines: list[str],
    as_json: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    @command
    def fails(as_json: bool = False) -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        fails(as_json=as_json)
    assert caught.value.exit_code == status
    written = capfd.readouterr()
    assert written.err.splitlines() == lines
    if not as_json:
        assert written.out == ""
        return
    document = json.loads(written.out)
    assert document["error"]["type"] == kind
    assert [line.removeprefix("error: ") for line in lines] == document["error"]["problems"]


def test_a_file_name_that_is_no_text_is_escaped_in_a_document(
    capfd: pytest.CaptureFixture[str],
) -> None:
    name = os.fsdecode(b"b\xff.jpg")
    emit_json({"image": name, "more": [{name: 1.5}]})
    assert json.loads(capfd.readouterr().out) == {
        "image": "b\\udcff.jpg",
        "more": [{"b\\udcff.jpg": 1.5}],
    }


FULL = "error: No space left on device. Make room, or write elsewhere."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is always full")
@pytest.mark.parametrize("arguments", [["--help"], ["runs", "list", "--json"]])
def test_a_full_stdout_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "autofocus", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr == f"{FULL}\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_character_that_the_output_cannot_show_is_escaped(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    never_fail_on_a_character()
    sys.stdout.write("\u2581 \udcff")
    sys.stdout.flush()
    assert written.getvalue().endswith(b"\\udcff")
    assert written.getvalue().decode(encoding).startswith(("\u2581", "\\u2581"))
