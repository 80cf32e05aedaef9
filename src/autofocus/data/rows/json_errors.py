r"""Lines that are not JSON, explained: what is wrong, where, and what most often causes it."""

import re

import orjson

from autofocus.data.rows.issues import Issue, Severity, short_value

# Codes of lines that hold no row at all, which MLTable's `invalid_lines` decides on.
INVALID_LINE_CODES = ("json.invalid", "json.truncated", "line.encoding", "line.too_long")

_HINTS = (
    (rb",\s*[}\]]", "There is a comma before a closing bracket: remove it."),
    (rb"^\s*[{\[]?\s*$", "Each row must stand on one line of its own, not be spread over many."),
    (rb"^\s*\[\s*\{", "One JSON object a line is wanted, not a list of them."),
    (rb"\}\s*\{", "One JSON object a line is wanted; here are several."),
    (rb"^\s*\{\s*'", "JSON wants double quotes: write the file with a JSON library."),
    (rb":\s*(None|True|False)\b", "JSON writes null, true and false."),
    (rb"\r.", "Lines must end with a line feed; this file has carriage returns only."),
)


def invalid_line(
    file: str, number: int, line: bytes, error: ValueError, severity: Severity
) -> Issue:
    """Return the issue of a line that `parse_line` refused with `error`."""
    code, message, value, hint = _explain(line, error)
    return Issue(
        file=file,
        line=number,
        code=code,
        severity=severity,
        value=value,
        message=message,
        hint=hint,
    )


def too_long_line(file: str, number: int, num_bytes: int, severity: Severity) -> Issue:
    """Return the issue of a line that was not read because of its length."""
    return Issue(
        file=file,
        line=number,
        code="line.too_long",
        severity=severity,
        value=f"{num_bytes} bytes",
        message="a line must have at most 64 MiB",
        hint="Is this JSON Lines, one object a line?",
    )


def _explain(line: bytes, error: ValueError) -> tuple[str, str, str | None, str]:
    if isinstance(error, UnicodeDecodeError):
        found = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
        hint = "Save the file as UTF-8, or name its encoding in an MLTable file."
        return "line.encoding", "must be UTF-8", found, hint
    if not isinstance(error, orjson.JSONDecodeError):
        return "json.invalid", f"must be JSON; {error}", None, ""
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, line)), "")
    if not hint and not line.rstrip().endswith((b"}", b"]")):
        message = "must be JSON; the line ends in the middle of the row"
        tail = str(short_value(line.rstrip()[-30:].decode(errors="replace")))
        return "json.truncated", message, f"…{tail}", "Was the file cut off while it was copied?"
    message = f"must be JSON; column {error.pos + 1}: {error.msg}"
    near = line[max(0, error.pos - 20) : error.pos + 20].strip().decode(errors="replace")
    return "json.invalid", message, str(short_value(near)), hint
