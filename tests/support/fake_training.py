"""`autofocus train` with a run that only pretends: started by the tests of the live view.

python fake_training.py NUM_TRIALS HOW SECONDS_AN_EPOCH [ARGUMENTS of autofocus ...]
"""

import logging
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from autofocus import api
from autofocus.cli.__main__ import main
from autofocus.errors import TrainingError
from autofocus.study.folder.run_folder import hold_folder
from support.run_folders import begin_trial, end_trial, evaluate, write_progress, write_run

log = logging.getLogger("autofocus.fake")
num_trials, how, epoch_s = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])


def train(document: Any, track: Any, on_folder: Any, **options: Any) -> dict[str, Any]:
    folder = Path(options.get("output_dir") or "runs/fake-12345678")
    folder.mkdir(parents=True, exist_ok=True)
    held = hold_folder(folder)
    started = time.time()
    several: dict[str, Any] = {} if num_trials > 1 else {"search_space": None}
    write_run(folder, limits={"max_trials": num_trials}, **several)
    if on_folder is not None:
        on_folder(folder)
    for number in range(num_trials):
        write_progress(
            folder, num_trials=num_trials, text=f"trial {number}", started=started, eta=started + 9
        )
        begin_trial(folder, number)
        for epoch in range(1, 4):
            for _ in track(range(5), f"epoch {epoch}", 5):
                time.sleep(epoch_s / 5)
            evaluate(folder, number, [0.5 + 0.1 * number + 0.01 * each for each in range(epoch)])
            log.info("trial %d epoch %d, a line " + "that is long " * 9, number, epoch)
        if how != "well":
            end()
        end_trial(folder, number, 0.52 + 0.1 * number)
    time.sleep(epoch_s)
    warnings.warn("a warning", stacklevel=1)
    (folder / "result.json").write_text("{}")
    held.release()
    result = {"primary_metric": "accuracy", "value": 0.9, "test_metrics": None}
    return result | {"best_model": str(folder / "best_model"), "seconds": 3.0}


def end() -> None:
    if how == "fails":
        raise TrainingError("no trial had a model")
    if how == "crashes":
        raise ZeroDivisionError("a bug")
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(5)


if __name__ == "__main__":
    # Whoever runs the tests in the background of a shell has them ignore it, and all they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    api.train = train  # type: ignore[assignment]
    del sys.argv[1:4]
    main()
