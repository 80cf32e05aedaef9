"""Counts calls of a function wherever modules have imported it by name."""

import sys
from collections.abc import Callable
from typing import Any

import pytest


def count_calls(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]) -> list[None]:
    """Return a list that grows by one with every call of `function` from autofocus."""
    calls: list[None] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        return function(*args, **kwargs)

    for name, module in list(sys.modules.items()):
        if name.startswith("autofocus.") and getattr(module, function.__name__, None) is function:
            monkeypatch.setattr(module, function.__name__, counted)
    return calls
