"""Trials that go on when a finished run does: those that time ended, as there is more of it now.

A file of its own: it is not the scheduler's business how a trial is made to train on.
"""

from collections.abc import Iterable
from pathlib import Path

from autofocus.study.folder.run_folder import RunFolder
from autofocus.study.folder.trial_folder import TRIAL_NAME, forget_derived, read_row
from autofocus.training.loop import OUT_OF_TIME, let_go_on


def reopen_trials(run: RunFolder, trials: Iterable[Path]) -> bool:
    """Mark trials that time ended as unfinished, once; return whether the run goes on.

    Args:
        run: The run folder.
        trials: Folders of the trials.
    """
    earlier = run.earlier_result()
    if earlier is None:
        return False
    seconds_before, decided = earlier["seconds"], run.decided("goes_on")
    if decided is not None and decided["seconds_before"] == seconds_before:
        return True
    reopened = []
    for folder in trials:
        row = read_row(folder)
        if row is not None and row["reason"] == OUT_OF_TIME and (folder / "last").is_dir():
            let_go_on(folder)
            forget_derived(folder)
            row |= {"status": "stopped", "reason": "goes on"}
            run.write_json(f"trials/{row['id']}/{TRIAL_NAME}", row)
            reopened.append(row["id"])
    run.decide("goes_on", trials=reopened, seconds_before=seconds_before)
    return True
