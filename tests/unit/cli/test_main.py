"""Arguments that do not parse: one line, one document, exit status 2."""

import json
import sys

import pytest

from autofocus.cli import __main__ as cli

WRONG = {
    "no such command": (["nonsense"], "No such command 'nonsense'. 'autofocus --help'"),
    "no such flag": (["train", "--dat", "x"], "--data"),
    "not a number": (["train", "--seed", "x"], "'--seed'"),
    "nothing to score": (["score", "model"], "Missing argument 'IMAGE…'. 'autofocus score --help'"),
    "no photo": (["demo", "--render", "x", "-n", "0"], "'-n'"),
    "in a group": (["data", "check", "x", "--jsn"], "'autofocus data check --help' says"),
}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["autofocus", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_one_line_and_one_document(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = WRONG[name]
    assert run(monkeypatch, *arguments) == 2
    written = capfd.readouterr()
    (line,) = written.err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert written.out == ""

    assert run(monkeypatch, *arguments, "--json") == 2
    written = capfd.readouterr()
    assert json.loads(written.out)["error"]["type"] == "UsageError"
    assert len(written.err.splitlines()) == 1


def test_a_command_alone_shows_its_help(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch) == 2
    assert run(monkeypatch, "data") == 2
    written = capfd.readouterr()
    assert "error:" not in written.err
    assert "Usage: autofocus data" in written.out + written.err


def test_help_shows_the_shape_of_a_map(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "explain", "--help") == 0
    assert "(channels, h, w)" in capfd.readouterr().out


def test_an_exit_status_goes_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "data", "check", "/nowhere/at/all") == 2
    assert run(monkeypatch, "--help") == 0
    assert "no such file or folder. Give a JSONL file" in capfd.readouterr().err
