"""Issues of data: one `Issue` a finding, and the log that counts them all.

Severities: an *error* costs an object, a row or an image; a *warning* was put right or needs a
look; *info* is worth knowing. Codes are stable names for machines: `docs/reference/data.md`.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal

import msgspec
import orjson

Severity = Literal["error", "warning", "info"]
Scalar = str | int | float | bool | None

MAX_SHOWN = 80
KEPT_PER_CODE = 100


class Issue(msgspec.Struct, frozen=True, kw_only=True):
    """One finding.

    Attributes:
        file: File or folder, spelled as the user gave it.
        line: Line in `file`, from 1; None where there are no lines.
        path: Place inside the row, such as `label[2].topX`; empty for the whole row.
        code: Stable machine name.
        value: Value found there, shortened; None when nothing was.
        message: The rule, as the predicate of a sentence about `path`.
        hint: Next step; may be empty.
    """

    file: str
    line: int | None = None
    path: str = ""
    code: str
    severity: Severity
    value: Scalar = None
    message: str
    hint: str = ""

    def text(self) -> str:
        """Return the one-line form: `file:line: path message, got value. hint`."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        sentence = f"{self.path} {self.message}".strip()
        got = "" if self.value is None else f", got {_quoted(self.value)}"
        return f"{place}: {sentence}{got}. {self.hint}".rstrip()


@dataclass
class RowIssues:
    """Collects the issues of one row; readers of values add to it.

    Attributes:
        file: File that the row stands in.
        line: Its line, or None.
        issues: Issues so far, in order.
    """

    file: str
    line: int | None
    issues: list[Issue] = field(default_factory=list)

    def error(
        self, code: str, path: str, message: str, value: Scalar = None, hint: str = ""
    ) -> None:
        """Add an issue that costs an object or the row."""
        self._add("error", code, path, message, value, hint)

    def warning(
        self, code: str, path: str, message: str, value: Scalar = None, hint: str = ""
    ) -> None:
        """Add an issue that was put right."""
        self._add("warning", code, path, message, value, hint)

    def info(
        self, code: str, path: str, message: str, value: Scalar = None, hint: str = ""
    ) -> None:
        """Add something worth knowing."""
        self._add("info", code, path, message, value, hint)

    def _add(
        self, severity: Severity, code: str, path: str, message: str, value: Scalar, hint: str
    ) -> None:
        self.issues.append(
            Issue(
                file=self.file,
                line=self.line,
                path=path,
                code=code,
                severity=severity,
                value=value,
                message=message,
                hint=hint,
            )
        )


class IssueLog:
    """Exact counts of all issues, and the first few of each code.

    Args:
        sink: Takes every issue as a line of JSON, none left out.
        only_errors: Whether `sink` takes errors only.
    """

    def __init__(self, sink: BinaryIO | None = None, only_errors: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.severities: dict[str, Severity] = {}
        self.has_sink = sink is not None
        self._num_of: Counter[Severity] = Counter()
        self._num_kept: Counter[str] = Counter()
        self._examples: list[Issue] = []
        self._sink = sink
        self._only_errors = only_errors

    def add(self, issue: Issue) -> None:
        """Count `issue`, keep it if it is among the first of its code, write it to the sink."""
        self.add_uncounted(issue)
        self.counts[issue.code] += 1
        self._num_of[issue.severity] += 1

    def add_all(self, issues: Iterable[Issue]) -> None:
        """Add each of `issues`."""
        for issue in issues:
            self.add(issue)

    def add_count(self, code: str, severity: Severity, num: int) -> None:
        """Count `num` issues whose examples come through `add_uncounted`."""
        self.counts[code] += num
        self._num_of[severity] += num

    def add_uncounted(self, issue: Issue) -> None:
        """Keep or write an issue that `add_count` has counted already."""
        # The gravest severity a code came with stands for it in summaries.
        known = self.severities.get(issue.code)
        if known is None or _RANK[issue.severity] < _RANK[known]:
            self.severities[issue.code] = issue.severity
        if self._num_kept[issue.code] < KEPT_PER_CODE:
            self._num_kept[issue.code] += 1
            self._examples.append(issue)
        is_wanted = issue.severity == "error" or not self._only_errors
        if self._sink is not None and is_wanted:
            self._sink.write(msgspec.json.encode(issue) + b"\n")

    @property
    def num_errors(self) -> int:
        """Number of issues of severity error."""
        return self._num_of["error"]

    @property
    def num_warnings(self) -> int:
        """Number of issues of severity warning."""
        return self._num_of["warning"]

    def examples(self) -> list[Issue]:
        """Return the kept issues in the order in which they were found."""
        return list(self._examples)

    def codes(self) -> list[str]:
        """Return all codes, the gravest and most frequent first."""
        return sorted(
            self.counts, key=lambda code: (_RANK[self.severities[code]], -self.counts[code], code)
        )

    def summary(self) -> list[str]:
        """Return one line a code that is more than information, with its first example."""
        first = {issue.code: issue for issue in reversed(self._examples)}
        return [
            f"{self.severities[code]}: {self.counts[code]} x {code}, first: {first[code].text()}"
            for code in self.codes()
            if self.severities[code] != "info"
        ]


_RANK: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}


def short_value(value: Any) -> Scalar:
    """Return `value` short enough for a message: scalars as they are, the rest as JSON text."""
    if isinstance(value, bool | int) and abs(value) < 1 << 63:
        return value
    if isinstance(value, float):
        return (
            value
            if math.isfinite(value)
            else {"nan": "NaN", "inf": "Infinity"}.get(str(value), "-Infinity")
        )
    if isinstance(value, str):
        return _shortened(value)
    return _shortened(_json_text(value))


def _json_text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except (TypeError, RecursionError):  # huge integers, lone surrogates, 1,000 levels
        return f"a {type(value).__name__}"


def _shortened(text: str) -> str:
    # Lone surrogates cannot be written to a file or a terminal.
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _quoted(value: Scalar) -> str:
    if isinstance(value, str) and value not in ("null", "NaN", "Infinity", "-Infinity"):
        return value if value.startswith(("[", "{", "a ")) else f"'{value}'"
    return str(value).lower() if isinstance(value, bool) else str(value)
