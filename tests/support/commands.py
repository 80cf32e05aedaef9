"""The command line, in the process of the tests or in one of its own."""

import subprocess
import sys
from typing import Any

from typer.testing import CliRunner, Result

from autofocus.cli.__main__ import app


def invoke(*arguments: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def command_line(*arguments: object) -> list[str]:
    """Return the words that run a command in a process of its own."""
    return [sys.executable, "-m", "autofocus", *map(str, arguments)]


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own; `options` are those of `subprocess.run`."""
    return subprocess.run(
        command_line(*arguments), capture_output=True, text=True, check=False, **options
    )
