"""Errors that autofocus raises on purpose.

AutofocusError                 exit status 1: something failed
* InputError                   exit status 2: wrong input from the user; may carry many problems
  + JobError                   the job YAML or a flag
  + DataError                  rows, files or folders of training data
  + ImageError                 one image's bytes cannot be used; `code` says why
  + WeightsError               a named model whose weights cannot be had, or may not be used
  + ModelFolderError           a model folder is incomplete, damaged or unsafe
  + RequestError               a scoring request; `status` is the HTTP status
  + RunFolderError             the run folder belongs to another job, or to a running driver
  + PluginError                an entry that another distribution adds cannot be used
* VerificationError            a written package differs from the trained network
* ScoringError                 a model's answer is not a number
* TrainingError                training diverged before it had learnt anything
* BudgetError                  the time budget ended before there was a model
* StoppedError                 Ctrl-C or SIGTERM; carries how to go on

Messages name rule, value, place and next step, and list every problem at once.
"""

from collections.abc import Sequence


class AutofocusError(Exception):
    """Base of all errors raised on purpose."""

    exit_status = 1


class InputError(AutofocusError):
    """Wrong input from the user.

    Args:
        problems: One sentence a problem, each with rule, value, place and next step.
    """

    exit_status = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(self.problems))


class JobError(InputError):
    """The job YAML, a flag or a `--set` is wrong."""


class DataError(InputError):
    """Training data cannot be read or has nothing valid in it."""


class ImageError(InputError):
    """One image's bytes cannot be used.

    Args:
        code: Stable machine name, such as `image.truncated`.
        message: The problem, for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


class WeightsError(InputError):
    """A named model's weights cannot be had, or their licence was not accepted."""


class ModelFolderError(InputError):
    """A model folder is incomplete, damaged or tries to reach outside itself."""


class ScoringError(AutofocusError):
    """A network's output is not a number, so there is no answer."""


class RequestError(InputError):
    """A scoring request is wrong.

    Args:
        problems: The problem, its place, and what is allowed; or several.
        status: HTTP status that the server answers with.
    """

    def __init__(self, problems: str | Sequence[str], status: int = 400) -> None:
        super().__init__(problems)
        self.message = " ".join(self.problems)
        self.status = status


class RunFolderError(InputError):
    """The run folder belongs to another job or to a driver that is still running."""


class PluginError(InputError):
    """An entry that another distribution adds to a table cannot be used."""


class VerificationError(AutofocusError):
    """A written package does not reproduce the trained network; it was not published."""


class TrainingError(AutofocusError):
    """Training diverged before any epoch was worth keeping."""


class BudgetError(AutofocusError):
    """The time budget ended before there was any model."""


class StoppedError(AutofocusError):
    """The user stopped the run; the message says how to go on."""

    exit_status = 130
