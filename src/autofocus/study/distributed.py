"""The conductor's front where `torchrun` or `accelerate launch` started several processes."""

from collections.abc import Mapping
from typing import Any

from autofocus.runtime import process_count, process_rank
from autofocus.study.run import run


def run_together(document: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Run a job on the first process, while the others take part in its training.

    Args:
        document: The job, not yet checked.
        **options: What `run` takes besides.

    Returns:
        The result document, on every process.

    Raises:
        InputError: On the first process, as `run` does.
        SystemExit: On the others, when the first one failed.
    """
    if process_count() == 1:
        return run(document, **options)
    from autofocus.training import distributed

    if process_rank() > 0:
        return distributed.run_worker()
    result = None
    try:
        result = run(document, **options)
        return result
    finally:
        distributed.shutdown(result)
