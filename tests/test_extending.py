"""The examples of docs/extending.md run: entries of a script, and of a distribution."""

import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import fields
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autofocus import plugins
from autofocus.data.formats import FORMATS, known_formats
from autofocus.explain.algorithms import ALGORITHMS, attribution_method, names_of
from autofocus.models.catalog import MODELS, resolve
from autofocus.models.families import FAMILIES, family_of
from autofocus.settings import parameters
from autofocus.study.job_schema import job_schema
from autofocus.study.search.samplers import SAMPLERS, known_samplers
from autofocus.training.recipe import Recipe

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
PROSE = re.sub(r"```.*?```", "", TEXT, flags=re.S)
# A block under a line with nothing but the name of its file.
FILES: dict[str, str] = dict(re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)```", TEXT, re.S | re.M))
TABLES = (FAMILIES, MODELS, FORMATS, ALGORITHMS, SAMPLERS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write the files of the page and some photos; afterwards all tables are as before."""
    for name, block in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(block, encoding="utf-8")
    write_photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_added", set())
    before = [dict(table) for table in TABLES]
    yield tmp_path
    for table, entries in zip(TABLES, before, strict=True):
        table.clear()
        table.update(entries)  # type: ignore[arg-type]
    for module in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
        del sys.modules[module]


def write_photos(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for number in range(12):
        label, colour = ("red", (200, 0, 0)) if number % 2 else ("blue", (0, 0, 200))
        pixels = rng.integers(0, 55, (40, 48, 3)) + np.array(colour)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png: {label}")
    (folder / "photos.toylist").write_text("\n".join(lines))


@pytest.mark.usefixtures("one_thread")
def test_the_script_trains_searches_scores_and_explains(folder: Path) -> None:
    with redirect_stdout(StringIO()) as out:
        exec(compile(FILES["train_toy.py"], "train_toy.py", "exec"), {"__name__": "__main__"})
    assert "'labels': ['blue', 'red']" in out.getvalue()
    assert (folder / "occlusion.png").read_bytes().startswith(b"\x89PNG")
    trials = json.loads((folder / "runs/toy/result.json").read_bytes())["trials"]
    assert [(row["id"], row["model"], row["status"]) for row in trials] == [
        (name, "toy_net", "completed") for name in ("probe", "0", "1")
    ]
    command: dict[str, Any] = {}
    exec(FILES["src/autofocus/cli/labels.py"], command)
    with redirect_stdout(StringIO()) as out:
        command["labels"](folder / "runs/toy")
    assert out.getvalue() == "blue\nred\n"


def test_the_distribution_adds_the_same_entries(folder: Path) -> None:
    groups = tomllib.loads(FILES["pyproject.toml"])["project"]["entry-points"]
    info = folder / "autofocus_toy-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: autofocus-toy\nVersion: 0.1\n")
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    spec = resolve("toy_net")
    assert (spec.name, type(family_of(spec)).__name__) == ("toy_net", "ToyFamily")
    formats = [form.name for form in known_formats()]
    assert formats.index("toylist") < formats.index("coco"), "asked before ours"
    # As a server's process that explains, which never asks for names.
    assert attribution_method("occlusion").name == "occlusion"
    assert "occlusion" in names_of("classes")
    proposed = json.dumps(job_schema())
    assert '"toy_net"' in proposed
    assert '"near_best"' in proposed
    assert known_samplers()["near_best"].__module__ == "toy.sampler"
    assert set(groups) == {
        f"autofocus.{name}" for name in ("families", "models", "formats", "explainers", "samplers")
    }


def test_the_hyperparameter_is_a_row_that_the_recipe_has() -> None:
    (block,) = re.findall(r"^```python\n(\"mixup_alpha\": .*?)```", TEXT, re.S | re.M)
    row = eval("{" + block + "}", vars(parameters).copy())
    assert row["mixup_alpha"].kind.parse("0.2") == 0.2
    assert "mixup_alpha" in {field.name for field in fields(Recipe)}
    assert "mixup_alpha" not in parameters.PARAMETERS, "take another example"


def test_names_are_read_without_torch(folder: Path) -> None:
    for name in FILES:
        if name.startswith("toy/"):
            module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
            assert "torch" not in vars(module)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PROSE):
        assert (ROOT / "docs" / target).exists(), target


def test_files_that_the_page_names_exist() -> None:
    for name in re.findall(
        r"`((?:models|explain|study|data|scoring|training|cli)/[\w/.]+)`", PROSE
    ):
        assert (ROOT / "src/autofocus" / name).exists(), name
    for name in re.findall(r"`(tests/[\w/.]+|docs/[\w/.]+)`", PROSE):
        assert (ROOT / name).exists(), name
