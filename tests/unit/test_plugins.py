"""Installed distributions add entries to tables; a broken one is named."""

import sys
from pathlib import Path

import pytest

from autofocus import plugins
from autofocus.errors import PluginError

GROUP = "autofocus.toys"


def install(folder: Path, *entries: str, code: str = "TOY = object()\n") -> None:
    """Write a distribution as pip leaves it: a module and its metadata."""
    (folder / "toy_plugin.py").write_text(code)
    info = folder / "toy_dist-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-dist\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *entries]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_added", set())
    monkeypatch.delitem(sys.modules, "toy_plugin", raising=False)
    return tmp_path


def test_an_installed_entry_is_added_once_and_keeps_those_before(site: Path) -> None:
    install(site, "toy = toy_plugin:TOY")
    table: dict[str, object] = {"ours": 1}
    assert plugins.with_plugins(table, GROUP) is table
    import toy_plugin

    assert table == {"ours": 1, "toy": toy_plugin.TOY}
    del table["toy"]
    assert "toy" not in plugins.with_plugins(table, GROUP)


def test_the_same_entry_of_a_script_and_of_a_distribution_is_one(site: Path) -> None:
    install(site, "toy = toy_plugin:TOY")
    import toy_plugin

    table = {"toy": toy_plugin.TOY}
    assert plugins.with_plugins(table, GROUP) == {"toy": toy_plugin.TOY}


@pytest.mark.parametrize(
    ("entry", "code", "reason"),
    [
        ("toy = toy_plugin:TOY", "1 / 0\n", "ZeroDivisionError: division by zero"),
        ("toy = toy_plugin:TOX", "", "AttributeError"),
        ("toy = no_such_plugin:TOY", "", "ModuleNotFoundError: No module named 'no_such_plugin'"),
        ("ours = toy_plugin:TOY", "TOY = 2\n", "another entry has this name"),
        ("toy = toy_plugin:TOY", "TOY = 3\n", "3 is no toy"),
    ],
)
def test_a_broken_one_is_named_each_time(site: Path, entry: str, code: str, reason: str) -> None:
    install(site, entry, code=code)
    for _ in range(2):
        with pytest.raises(PluginError) as caught:
            plugins.with_plugins(
                {"ours": 1}, GROUP, lambda value: "3 is no toy" if value == 3 else None
            )
        message = str(caught.value)
        assert message.startswith(f"toy-dist 1.2: its entry point '{entry}' in the group {GROUP}")
        assert reason in message
        assert message.endswith("Mend or uninstall toy-dist 1.2.")
