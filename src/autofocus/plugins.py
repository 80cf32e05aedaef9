"""Entries that installed distributions add to our tables, by entry points.

A table is a plain dict, to which a script adds entries by hand. A distribution names the same
entries in its `pyproject.toml`, and they are there in every process (docs/extending.md):

    [project.entry-points."autofocus.families"]
    toy = "toy_package.family:FAMILY"
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from autofocus.errors import PluginError

T = TypeVar("T")

# Groups whose entries are in their table.
_added: set[str] = set()


def with_plugins(
    table: dict[str, T], group: str, problem: Callable[[Any], str | None] = lambda entry: None
) -> dict[str, T]:
    """Add the entry points of a group to its table, once a process; return the table.

    Args:
        table: Entries by name; those of ours and of scripts stay.
        group: Name of the group, `autofocus.<table>`.
        problem: Function from a loaded object to why it is no entry, or None.

    Raises:
        PluginError: If an entry cannot be loaded, is no entry, or has the name of another.
    """
    if group not in _added:
        for entry_point in entry_points(group=group):
            _add(table, entry_point, problem)
        _added.add(group)
    return table


def _add(
    table: dict[str, T], entry_point: EntryPoint, problem: Callable[[Any], str | None]
) -> None:
    try:
        entry = entry_point.load()
    except Exception as error:  # a plugin's module may raise what it likes
        raise _refusal(entry_point, f"{type(error).__name__}: {error}") from error
    if reason := problem(entry):
        raise _refusal(entry_point, reason)
    if table.get(entry_point.name, entry) is not entry:
        raise _refusal(entry_point, "another entry has this name")
    table[entry_point.name] = entry


def _refusal(entry_point: EntryPoint, reason: str) -> PluginError:
    dist = entry_point.dist
    name = "an unknown distribution" if dist is None else f"{dist.name} {dist.version}"
    return PluginError(
        f"{name}: its entry point '{entry_point.name} = {entry_point.value}' in the group "
        f"{entry_point.group} cannot be used: {reason}. Mend or uninstall {name}."
    )
