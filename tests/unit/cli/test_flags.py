"""Flags from declared options: their types, their help and their place among a command's own."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from autofocus.cli.flags import with_flags
from autofocus.settings.fields import FilePath, Flag, Number, OneOf, Text
from autofocus.settings.options import Option, options_of


@dataclass(frozen=True)
class Camera:
    mount: Annotated[str, Option(OneOf(("bayonet", "screw")), "Mount")] = "screw"
    blades: Annotated[int, Option(Number(5, 11, whole=True), "Blades")] = 7
    aperture: Annotated[float, Option(Number(0, above=True), "Aperture")] = 2.0
    is_fast: Annotated[bool, Option(Flag(), "Fast")] = False
    strap: Annotated[str | None, Option(Text(), "Strap", default_words="none")] = None
    film: Annotated[Path | None, Option(FilePath(), "Film", more="not in help")] = None
    shots: Annotated[int, Option(Number(1), "Shots", default_words="all")] = field(
        default_factory=lambda: 36
    )


CAMERA = options_of(Camera, Option)
FLAGS = {"mount": "mount", "f_stop": "aperture"} | {n: n for n in [*CAMERA][1:] if n != "aperture"}
given: dict[str, Any] = {}
app = typer.Typer()


@app.command()
@with_flags(FLAGS, CAMERA, Camera())
def take(photo: str, *, as_json: bool = False, **flags: Any) -> None:
    given.update(flags, photo=photo, as_json=as_json)


def test_flags_arrive_as_their_types_and_none_where_not_given() -> None:
    arguments = "cat --mount bayonet --f-stop 4 --is-fast --film a.raw --as-json"
    assert CliRunner().invoke(app, arguments.split()).exit_code == 0
    assert given == {
        "photo": "cat",
        "mount": "bayonet",
        "f_stop": 4.0,
        "is_fast": True,
        "film": Path("a.raw"),
        "blades": None,
        "strap": None,
        "shots": None,
        "as_json": True,
    }


@pytest.mark.parametrize("wrong", [["--mount", "glue"], ["--blades", "7.5"], ["--aperture", "4"]])
def test_what_is_no_flag_or_no_choice_is_a_usage_error(wrong: list[str]) -> None:
    assert CliRunner().invoke(app, ["cat", *wrong]).exit_code == 2


def test_help_says_what_a_flag_is_and_its_default() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    texts = ["Mount (default: screw).", "Aperture (default: 2).", "Fast (default: no)."]
    texts += ["Strap (default: none).", "Film.", "Shots (default: all)."]
    assert [text for text in texts if text not in shown] == []
    assert "not in help" not in shown
    names = re.findall(r"--([a-z_-]+?)(?: |-json)", shown)
    assert names.index("mount") < names.index("shots") < names.index("as")
