"""Each rule of the house fails on a planted offence, and passes without it."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from check_house import main

LONG = "\n" * 60
# A file that runs `a`, so that `a` is not dead.
MAIN = "from p.a import x\n"


def check(folder: Path, **files: str) -> list[str]:
    """Check a package `p`; `formats__coco` stands for `formats/coco.py`. Return the findings."""
    root = folder / "p"
    for name, text in {"__init__": "", **files}.items():
        path = root / f"{name.replace('__', '/') if name.strip('_') == name else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with redirect_stdout(io.StringIO()) as printed:
        status = main(root)
    lines = printed.getvalue().splitlines()
    assert status == (not lines[-1].startswith("house fine"))
    return [line.removeprefix(f"{root}/") for line in lines if status]


def rules(found: list[str]) -> list[str]:
    return [line.split(": ")[1].split(",")[0] for line in found]


@pytest.mark.parametrize("of_b", ["from p.a import x\n", "def f():\n    from p import a\n"])
def test_a_circle_is_found(tmp_path: Path, of_b: str) -> None:
    found = check(tmp_path, __main__=MAIN, a=f"import p.b\nx = 1{LONG}", b=of_b + LONG)
    assert found == [
        "a.py:1: circle, a.py <-> b.py, merge them, or move what they share below both"
    ]


def test_a_circle_of_types_is_none(tmp_path: Path) -> None:
    of_b = f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import x\n{LONG}"
    assert not check(tmp_path, __main__=MAIN, a=f"import p.b\nx = 1{LONG}", b=of_b)


def test_relative_imports_are_followed(tmp_path: Path) -> None:
    of_b = f"from ..a import x\n{LONG}"
    found = check(tmp_path, __main__=MAIN, a=f"from .c import b\nx = 1{LONG}", c__b=of_b)
    assert rules(found) == ["circle"]


@pytest.mark.parametrize(
    "line",
    [
        'importlib.import_module("json")',
        '__import__("json")',
        "from importlib import import_module as load; load('json')",
        "list(map(importlib.import_module, []))",
    ],
)
def test_an_import_by_string_is_found(tmp_path: Path, line: str) -> None:
    found = check(tmp_path, __main__=MAIN, a=f"import importlib\n{line}\nx = 1{LONG}")
    assert rules(found) == ["import by string"]
    assert found[0].startswith("a.py:2: ")


@pytest.mark.parametrize(
    "line",
    [
        'importlib.import_module("json")  # import by string: an extra that may be missing',
        'importlib.util.find_spec("json")',
    ],
)
def test_an_import_by_string_may_say_why(tmp_path: Path, line: str) -> None:
    assert not check(tmp_path, __main__=MAIN, a=f"import importlib\n{line}\nx = 1{LONG}")


def test_an_import_by_string_must_say_why(tmp_path: Path) -> None:
    line = '__import__("json")  # import by string:'
    assert rules(check(tmp_path, __main__=MAIN, a=f"{line}\nx = 1{LONG}")) == ["import by string"]


def test_a_public_class_name_stands_once(tmp_path: Path) -> None:
    of_a, of_b = f"from p import b\nclass Batch: ...\nx = 1{LONG}", f"class Batch: ...\n{LONG}"
    assert check(tmp_path, __main__=MAIN, a=of_a, b=of_b) == [
        "a.py:2: class name twice, Batch is also in b.py:1, rename one",
        "b.py:1: class name twice, Batch is also in a.py:2, rename one",
    ]


def test_private_classes_may_share_a_name(tmp_path: Path) -> None:
    of_a, of_b = f"from p import b\nclass _Batch: ...\nx = 1{LONG}", f"class _Batch: ...\n{LONG}"
    assert not check(tmp_path, __main__=MAIN, a=of_a, b=of_b)


def test_a_small_file_with_one_importer_is_found(tmp_path: Path) -> None:
    found = check(tmp_path, __main__=MAIN, a="x = 1\n")
    assert found == [
        "a.py:1: small file, 1 lines, read by __main__.py alone, move it there, or add "
        "`A file of its own: <reason>.` to its docstring"
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"a": f"x = 1{LONG}"},
        {"a": '"""One number.\n\nA file of its own: it is copied alone.\n"""\nx = 1\n'},
        {"a": "x = 1\n", "b": f"from p.a import x\n{LONG}"},
        {"a": 'x = 1\nif __name__ == "__main__":\n    print(x)\n'},
    ],
    ids=["long enough", "says why", "two importers", "is run"],
)
def test_a_file_may_be_small_or_single(tmp_path: Path, files: dict[str, str]) -> None:
    main = MAIN + ("import p.b\n" if "b" in files else "")
    found = check(tmp_path, __main__=main, **files)
    assert [line for line in found if line.startswith("a.py")] == []


def test_a_file_must_say_why(tmp_path: Path) -> None:
    of_a = '"""One number.\n\nA file of its own:\n"""\nx = 1\n'
    assert rules(check(tmp_path, __main__=MAIN, a=of_a)) == ["small file"]


TABLE = "from p.formats import coco, voc, yolo\nx = {'coco': coco.read, 'voc': voc, 'yolo': yolo}"
MEMBERS = {f"formats__{name}": "def read(): ...\n" for name in ("coco", "voc", "yolo")}


def test_members_of_a_table_may_be_small(tmp_path: Path) -> None:
    assert not check(tmp_path, __main__=MAIN, a=TABLE + LONG, **MEMBERS)


@pytest.mark.parametrize(
    "table",
    [
        "from p.formats import coco, voc, yolo\nx = coco, voc",
        "from p.formats import coco, voc, yolo\ndef x(): return [coco, voc, yolo]",
        "from p.formats import coco, voc, yolo\nx: dict[coco, voc, yolo]",
    ],
    ids=["too few", "in a function", "a type"],
)
def test_what_is_no_table_excuses_nothing(tmp_path: Path, table: str) -> None:
    found = check(tmp_path, __main__=MAIN, a=table + LONG, **MEMBERS)
    assert rules(found) == ["small file"] * 3


def test_a_file_beside_a_table_is_no_member(tmp_path: Path) -> None:
    of_a = f"from p.formats import layout\n{TABLE}{LONG}"
    found = check(tmp_path, __main__=MAIN, a=of_a, formats__layout="", **MEMBERS)
    assert [line.split(":")[0] for line in found] == ["formats/layout.py"]


def test_a_dead_file_is_found(tmp_path: Path) -> None:
    found = check(tmp_path, a=f"x = 1{LONG}")
    assert found == ["a.py:1: dead file, no file imports it, remove it, or import it"]


@pytest.mark.parametrize("name", ["p.a", "a.py"])
def test_a_file_that_is_run_or_copied_is_alive(tmp_path: Path, name: str) -> None:
    assert not check(tmp_path, __init__=f"COMMAND = ('-m', '{name}')\n", a="x = 1\n")


def test_an_import_by_string_keeps_no_file_alive(tmp_path: Path) -> None:
    line = "__import__('p.a')  # import by string: a test\n"
    assert rules(check(tmp_path, __init__=line, a="x = 1\n")) == ["dead file"]


@pytest.mark.parametrize(("num_lines", "found"), [(600, []), (601, ["long file"])])
def test_a_file_has_a_limit(tmp_path: Path, num_lines: int, found: list[str]) -> None:
    small = {f"c__{name}": f"x = 1{LONG}" for name in "def"}
    uses = "".join(f"import p.{name.replace('__', '.')}\n" for name in small)
    of_a = "x = 1" + "\n" * num_lines
    assert rules(check(tmp_path, __main__=MAIN + uses, a=of_a, **small)) == found


def test_a_function_has_a_limit_and_its_docstring_is_not_counted(tmp_path: Path) -> None:
    fits = 'def x():\n    """One.\n\n    Two.\n    """\n' + "    1\n" * 79
    assert not check(tmp_path, __main__=MAIN, a=fits)
    found = check(tmp_path, __main__=MAIN, a=fits + "    1\n")
    assert found == ["a.py:1: long function, x has 81 lines, at most 80: split it"]


def test_the_median_has_a_limit(tmp_path: Path) -> None:
    assert not check(tmp_path, __init__="#\n" * 150)
    assert check(tmp_path, __init__="#\n" * 151) == [
        f"{tmp_path / 'p'}:0: long median, 151 lines a file, at most 150: split the longest"
    ]
