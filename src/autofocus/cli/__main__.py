"""The `autofocus` command. Each command is one file; heavy imports stay inside the commands."""

import sys

import typer

from autofocus.cli.batch import batch
from autofocus.cli.data import app as data_app
from autofocus.cli.demo import demo
from autofocus.cli.evaluate import evaluate
from autofocus.cli.explain import explain
from autofocus.cli.job import app as job_app
from autofocus.cli.output import (
    never_fail_on_a_character,
    refuse_usage,
    reporting_errors,
    writing_stdout,
)
from autofocus.cli.runs import app as runs_app
from autofocus.cli.score import score
from autofocus.cli.serve import serve
from autofocus.cli.train import train

app = typer.Typer(
    name="autofocus",
    help="AutoML for images that you run yourself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for function in (train, score, batch, explain, serve, evaluate, demo):
    app.command()(function)
app.add_typer(job_app, name="job", help="Write a job file.")
app.add_typer(runs_app, name="runs", help="Look at runs, go on with one, stop one.")
app.add_typer(data_app, name="data", help="Check and convert data.")


def main() -> None:
    """Run the command line."""
    never_fail_on_a_character()
    try:
        # Commands write by themselves; help is written here.
        with reporting_errors(as_json=False), writing_stdout():
            status = app(standalone_mode=False)
    except typer.Exit as end:
        status = end.exit_code
    except typer.TyperException as error:
        # A flag that does not parse is an input like any other: one line, one document.
        status = refuse_usage(error, as_json="--json" in sys.argv)
    sys.exit(status)


if __name__ == "__main__":
    main()
