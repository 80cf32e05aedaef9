"""MLTable folders: a file named exactly `MLTable` says where the JSONL lies and how to read it.

Only what describes JSON Lines of images is understood; anything else is refused by name, because
a transformation that is left out silently would change the data.
"""

import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from autofocus.data.formats.layout import entries_of
from autofocus.data.images.fetch import LocateError
from autofocus.data.images.locate import Locator
from autofocus.data.rows.jsonl import JsonlFile
from autofocus.errors import DataError
from autofocus.runtime import write_atomically

FILE_NAME = "MLTable"
SUFFIXES = (".jsonl", ".json", ".ndjson")

# Names that the MLTable schema gives to encodings -> Python's.
_ENCODINGS = {
    "utf8": "utf-8",
    "utf-8": "utf-8",
    "utf8bom": "utf-8",
    "ascii": "ascii",
    "iso88591": "iso8859-1",
    "latin1": "iso8859-1",
    "utf16": "utf-16",
    "utf-16": "utf-16",
    "utf32": "utf-32",
    "windows1252": "cp1252",
}
_TOP_KEYS = ("$schema", "type", "name", "version", "description", "tags", "metadata")
_COLUMN_TYPES = ("stream_info", "string", "int", "float", "boolean")


def read_mltable(folder: Path, maps: Mapping[str, str]) -> list[JsonlFile]:
    """Return the JSONL files of an MLTable folder, in the order it names them.

    Args:
        folder: Folder with the `MLTable` file.
        maps: Datastore names and URL prefixes, for `azureml://` paths.

    Raises:
        DataError: Names everything in the MLTable file that is wrong or not understood.
    """
    name = str(folder / FILE_NAME)
    document = _parse(folder / FILE_NAME, name)
    problems: list[str] = []
    options = _read_transformations(document.get("transformations"), name, problems)
    places = _read_paths(document.get("paths"), folder, maps, name, problems)
    problems += [
        f"{name}: {key!r} is not understood; the keys are paths and transformations."
        for key in document
        if key not in ("paths", "transformations", *_TOP_KEYS)
    ]
    if problems:
        raise DataError(problems)
    invalid_lines = cast(Literal["error", "drop"], options.get("invalid_lines", "error"))
    encoding = _ENCODINGS[options.get("encoding", "utf8")]
    return [JsonlFile(place, encoding, invalid_lines) for place in dict.fromkeys(places)]


def write_mltable(folder: Path, jsonl: str, image_column: str = "image_url") -> None:
    """Write `folder/MLTable` for the file `jsonl`, a path relative to the folder."""
    document = {
        "paths": [{"file": jsonl}],
        "transformations": [
            {
                "read_json_lines": {
                    "encoding": "utf8",
                    "invalid_lines": "error",
                    "include_path_column": False,
                }
            },
            {"convert_column_types": [{"columns": image_column, "column_type": "stream_info"}]},
        ],
    }
    text = yaml.safe_dump(document, sort_keys=False)
    write_atomically(folder / FILE_NAME, text.encode())


def _parse(path: Path, name: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        text = " ".join(str(error).split())
        raise DataError(f"{name}: must be YAML: {text}") from error
    if not isinstance(document, dict):
        raise DataError(f"{name}: must be a mapping with paths and transformations.")
    return document


def _read_transformations(steps: Any, name: str, problems: list[str]) -> dict[str, Any]:
    """Return the options of `read_json_lines`; check all other steps."""
    options: dict[str, Any] | None = None
    if not isinstance(steps, list):
        problems.append(f"{name}: transformations must be a list with read_json_lines.")
        return {}
    for i, step in enumerate(steps):
        place = f"{name}: transformations[{i}]"
        key, value = _split_step(step)
        if key == "read_json_lines":
            options = _check_json_lines(value, place, problems)
        elif key == "convert_column_types":
            _check_column_types(value, place, problems)
        else:
            problems.append(
                f"{place}: must be read_json_lines or convert_column_types, got {key!r}. Apply it "
                "to the data and write JSON Lines."
            )
    if options is None:
        problems.append(f"{name}: transformations must have read_json_lines.")
    return options or {}


def _split_step(step: Any) -> tuple[Any, Any]:
    if isinstance(step, dict) and len(step) == 1:
        return next(iter(step.items()))
    return step, None


def _check_json_lines(options: Any, place: str, problems: list[str]) -> dict[str, Any]:
    place = f"{place}.read_json_lines"
    if options is None:
        return {}
    if not isinstance(options, dict):
        problems.append(f"{place}: must be a mapping, got {options!r}.")
        return {}
    allowed = {
        "encoding": tuple(_ENCODINGS),
        "invalid_lines": ("error", "drop"),
        "include_path_column": (True, False),
    }
    for key, value in options.items():
        if key not in allowed:
            problems.append(f"{place}: {key!r} is not understood; known: {', '.join(allowed)}.")
        elif not isinstance(value, str | bool) or value not in allowed[key]:
            known = ", ".join(map(str, allowed[key]))
            problems.append(f"{place}.{key}: must be one of {known}, got {value!r}.")
    return options


def _check_column_types(conversions: Any, place: str, problems: list[str]) -> None:
    place = f"{place}.convert_column_types"
    if not isinstance(conversions, list):
        problems.append(f"{place}: must be a list of columns and column_type.")
        return
    for i, conversion in enumerate(conversions):
        if not isinstance(conversion, dict) or set(conversion) != {"columns", "column_type"}:
            problems.append(f"{place}[{i}]: must have columns and column_type, got {conversion!r}.")
            continue
        columns, column_type = conversion["columns"], conversion["column_type"]
        names = columns if isinstance(columns, list) else [columns]
        if not names or not all(isinstance(column, str) for column in names):
            problems.append(f"{place}[{i}].columns: must be a name or a list, got {columns!r}.")
        if column_type not in _COLUMN_TYPES:
            known = ", ".join(_COLUMN_TYPES)
            problems.append(
                f"{place}[{i}].column_type: must be one of {known}, got {column_type!r}."
            )


def _read_paths(
    paths: Any, folder: Path, maps: Mapping[str, str], name: str, problems: list[str]
) -> list[str]:
    if not isinstance(paths, list) or not paths:
        problems.append(f"{name}: paths must be a list such as [{{file: ./train.jsonl}}].")
        return []
    places: list[str] = []
    for i, entry in enumerate(paths):
        place = f"{name}: paths[{i}]"
        if (
            not isinstance(entry, dict)
            or len(entry) != 1
            or next(iter(entry)) not in _PATH_READERS
            or not isinstance(next(iter(entry.values())), str)
        ):
            problems.append(f"{place}: must be file, folder or pattern and a path, got {entry!r}.")
            continue
        [(kind, text)] = entry.items()
        try:
            found = _PATH_READERS[kind](_local(text, folder, maps))
        except LocateError as error:
            problems.append(f"{place}: {error.message}")
            continue
        if not found:
            problems.append(f"{place}: there is no JSONL file at {kind} {text!r}.")
        places += found
    return places


def _local(text: str, folder: Path, maps: Mapping[str, str]) -> str:
    """Return the place that a path of the MLTable file means; relative ones start at `folder`."""
    if "://" in text:
        return Locator(folder, None, maps).locate(text)
    return os.path.normpath(folder / text.replace("\\", "/"))


def _file(place: str) -> list[str]:
    return [place] if "://" in place or os.path.isfile(place) else []


def _folder(place: str) -> list[str]:
    if "://" in place:
        raise LocateError("url.folder", f"{place}: name the files of a remote folder one by one.")
    if not os.path.isdir(place):
        return []
    return [str(path) for path in entries_of(Path(place)) if path.suffix.lower() in SUFFIXES]


def _pattern(place: str) -> list[str]:
    if "://" in place:
        raise LocateError("url.folder", f"{place}: name remote files one by one.")
    return sorted(path for path in glob.glob(place, recursive=True) if os.path.isfile(path))


_PATH_READERS = {"file": _file, "folder": _folder, "pattern": _pattern}
