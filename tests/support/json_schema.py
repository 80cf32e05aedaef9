"""A JSON schema validator for the keywords that our schemas use."""

import re
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
_NOTES = {"$schema", "$defs", "title", "description", "default", "deprecated", "discriminator"}


def _has_type(value: Any, names: str | list[str]) -> bool:
    names = [names] if isinstance(names, str) else names
    fits = [name for name in names if isinstance(value, _TYPES[name])]
    return fits != [] and (not isinstance(value, bool) or "boolean" in fits)


def _is_number(value: Any) -> bool:
    return _has_type(value, "number")


# Keyword -> whether a value fits its argument; what it says nothing about fits.
_RULES: dict[str, Callable[[Any, Any], bool]] = {
    "type": _has_type,
    "const": lambda value, wanted: value == wanted,
    "enum": lambda value, names: any(value == n and type(value) is type(n) for n in names),
    "minimum": lambda value, low: not _is_number(value) or value >= low,
    "maximum": lambda value, high: not _is_number(value) or value <= high,
    "exclusiveMinimum": lambda value, low: not _is_number(value) or value > low,
    "exclusiveMaximum": lambda value, high: not _is_number(value) or value < high,
    "pattern": lambda value, text: not isinstance(value, str) or bool(re.search(text, value)),
    "minItems": lambda value, least: not isinstance(value, list) or len(value) >= least,
    "required": lambda value, names: not isinstance(value, dict) or {*names} <= {*value},
}


class Validator:
    """Validator of one schema document.

    Args:
        whole: The document, in which `$ref` is looked up.
    """

    def __init__(self, whole: dict[str, Any]) -> None:
        self._whole = whole

    def problems(self, value: Any) -> list[str]:
        """Return the places and keywords by which a value does not fit."""
        return list(self._problems(value, self._whole, ""))

    def _problems(self, value: Any, schema: dict[str, Any], at: str) -> Iterator[str]:
        for keyword, argument in schema.items():
            if keyword == "$ref":
                part = reduce(dict.__getitem__, argument.removeprefix("#/").split("/"), self._whole)
                yield from self._problems(value, part, at)
            elif keyword in ("anyOf", "oneOf"):
                fitting = [one for one in argument if not [*self._problems(value, one, at)]]
                if not fitting or (keyword == "oneOf" and len(fitting) > 1):
                    yield f"{at}: {keyword}"
            elif keyword in ("items", "properties", "additionalProperties"):
                for key, item, part in _items(value, keyword, schema):
                    yield from self._problems(item, part, f"{at}/{key}")
            elif keyword not in _NOTES and not _RULES[keyword](value, argument):
                yield f"{at}: {keyword} {argument}"


def _items(
    value: Any, keyword: str, schema: dict[str, Any]
) -> Iterator[tuple[str | int, Any, dict[str, Any]]]:
    """Yield the items of a value that a keyword speaks of, each with its key and schema."""
    argument, known = schema[keyword], schema.get("properties", {})
    if keyword == "items" and isinstance(value, list):
        yield from ((index, item, argument) for index, item in enumerate(value))
    for key, item in value.items() if keyword != "items" and isinstance(value, dict) else ():
        if keyword == "properties" and key in known:
            yield key, item, known[key]
        elif keyword == "additionalProperties" and key not in known:
            # Nothing is in an empty enum.
            part = {"enum": []} if argument is False else argument
            yield key, item, {} if part is True else part
