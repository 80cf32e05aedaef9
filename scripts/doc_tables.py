"""Write the tables of docs/reference that declarations in the code make.

A table stands between `<!-- table: <name of TABLES> -->` and `<!-- end -->`; the rest of a page is
written by hand.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from autofocus.explain.algorithms import ALGORITHMS
from autofocus.explain.parameters import XAI_PARAMETERS, Parameters, XaiParameter, allowed
from autofocus.serve.settings import ENV_PREFIX, SETTINGS, Setting, Settings
from autofocus.settings.fields import Flag, Number
from autofocus.settings.options import Option

PAGES = Path(__file__).parents[1] / "docs"
_TABLE = re.compile(r"(<!-- table: ([^\n]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Write every page whose tables have changed."""
    for path in sorted(PAGES.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (new := written(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(PAGES.parent)}: written")


def written(page: str) -> str:
    """Return a page with its tables as the code declares them now.

    Raises:
        KeyError: If a page names a table that `TABLES` does not have.
    """
    return _TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], page)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    cells = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    lines = [f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in cells]
    return "".join([lines[0], "|---" * len(head) + "|\n", *lines[1:]])


def server_settings() -> str:
    """Return the table of `serve.settings.Settings`."""
    head = ("flag", "variable", "values of the variable", "default", "")
    defaults = Settings()
    return table(
        head,
        [
            (
                _flag(name, setting),
                f"`{ENV_PREFIX}{name.upper()}`",
                _values(setting),
                setting.default_of(getattr(defaults, name)) or "none",
                _meaning(setting),
            )
            for name, setting in SETTINGS.items()
        ],
    )


def xai_parameters() -> str:
    """Return the table of `explain.parameters.Parameters`."""
    head = ("key", "values", "default", "", "used by")
    defaults = Parameters()
    return table(
        head,
        [
            (
                f"`{name}`{' (ours)' if parameter.ours else ''}",
                _algorithms() if name == "xai_algorithm" else allowed(parameter.kind),
                _json(parameter, getattr(defaults, name)),
                _meaning(parameter),
                _users(name),
            )
            for name, parameter in XAI_PARAMETERS.items()
        ],
    )


TABLES: dict[str, Callable[[], str]] = {
    "server settings": server_settings,
    "xai_parameters": xai_parameters,
}


def _flag(name: str, setting: Setting) -> str:
    if not setting.has_flag:
        return ""
    flag = (setting.flag or name).replace("_", "-")
    return f"`--{flag}`, `--no-{flag}`" if isinstance(setting.kind, Flag) else f"`--{flag}`"


def _values(setting: Setting) -> str:
    kind = setting.kind
    if not isinstance(kind, Number):
        return kind.allowed
    return f"{kind.low:,} to {kind.high:,}{setting.unit}{', whole' if kind.whole else ''}"


def _meaning(option: Option) -> str:
    return f"{option.help}; {option.more}" if option.more else option.help


def _json(parameter: XaiParameter, default: object) -> str:
    words = parameter.default_words if default is None else None
    return words or f"`{json.dumps(default)}`"


def _algorithms() -> str:
    def names(kind: str) -> str:
        return ", ".join(f"`{name}`" for name, x in ALGORITHMS.items() if x.explains == kind)

    return f"classes: {names('classes')}; boxes (ours): {names('boxes')}"


def _users(name: str) -> str:
    return ", ".join(user for user, x in ALGORITHMS.items() if name in x.parameters)


if __name__ == "__main__":
    main()
