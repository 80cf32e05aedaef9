"""The live view: what it shows, that lines scroll above it, and when there is none."""

import io
import logging
import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from autofocus.cli import live as live_module
from autofocus.cli.live import GIB, LiveRun, SteadyConsole, follow_run, memory_text, tree_bytes
from autofocus.cli.view import clock, sparkline, view
from autofocus.study.folder.reader import RunReader
from autofocus.study.folder.run_folder import hold_folder
from support.run_folders import begin_trial, end_trial, evaluate, write_progress, write_run

FAKE = Path(__file__).parents[2] / "support" / "fake_training.py"
HIDE_CURSOR = "\x1b[?25l"
NOW = 1090.0


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three trials ended, the second is served and the third failed; two more run."""
    folder = tmp_path / "run"
    write_run(folder)
    for number, values in enumerate([[0.5, 0.6, 0.57], [0.5, 0.72, 0.9]]):
        begin_trial(folder, number)
        evaluate(folder, number, values)
        end_trial(folder, number, max(values))
    begin_trial(folder, 2)
    end_trial(folder, 2, None, "failed", "out of memory")
    for number in (3, 4):
        begin_trial(folder, number)
        os.utime(folder / f"trials/{number}/trial.json", (NOW - 31, NOW - 31))
    evaluate(folder, 3, [0.5, 0.6, 0.8])
    (folder / "best_model").symlink_to("models/2")
    write_progress(folder, text="trial 4, epoch 2", deadline=1700.0)
    return folder


def lines_of(folder: Path, width: int = 120, height: int = 40, **changed: Any) -> list[str]:
    run = replace(RunReader(folder, process=os.getpid()).read(), **changed)
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(view(run, "memory: 1.0 GiB held", width, height, NOW))
    return console.export_text().splitlines()


def test_the_picture_of_a_run(run: Path) -> None:
    lines = lines_of(run, path=Path("runs/fridge"))
    assert lines[0] == "image_classification by accuracy · tiny_net · runs/fridge"
    assert re.fullmatch(
        r"3 of 9 trials ended \(2 completed, 1 failed\) · served: trial 1 · 1:30 gone · "
        r"ETA \d\d:\d\d, in 8:30 · budget until \d\d:\d\d",
        lines[1],
    )
    assert lines[2] == "memory: 1.0 GiB held"
    assert lines[3:] == [
        "trial  accuracy  curve              epochs     time  status      parameters",
        "    1    0.9000  ▁▅█                     1     13 s  completed   served  "
        "learning_rate 0.01235",
        "    0    0.6000  ▁█▆                     1     13 s  completed   learning_rate 0.01235",
        "    2         –                          1     13 s  failed      out of memory  "
        "learning_rate 0.01235",
        "    3    0.8000  ▁▃█                     2     31 s  running     80 images/s  "
        "learning_rate 0.01235",
        "    4         –                          0     31 s  running     learning_rate 0.01235",
    ]


def test_models_are_named_where_they_differ(run: Path) -> None:
    begin_trial(run, 5, model="other_net")
    lines = lines_of(run)
    assert "tiny_net" not in lines[0]
    assert lines[3].endswith("status      model, parameters")
    assert lines[4].endswith("completed   served  tiny_net  learning_rate 0.01235")
    assert lines[-1].endswith("running     other_net  learning_rate 0.01235")


def test_without_a_budget_a_trial_has_all_its_epochs(run: Path) -> None:
    write_progress(run)
    (line,) = [line for line in lines_of(run) if line.startswith("    3")]
    assert " 2/5  " in line


def test_what_is_not_known_is_left_out(run: Path) -> None:
    (run / "progress.json").unlink()
    lines = lines_of(run)
    assert lines[1] == "3 of 9 trials ended (2 completed, 1 failed) · served: trial 1"
    write_run(run, primary_metric="mean_average_precision")
    assert lines_of(run)[3].startswith("trial     value  curve")


@pytest.mark.parametrize(("width", "height", "left_out"), [(120, 14, 6), (60, 40, 2), (40, 8, 9)])
def test_the_picture_fits(run: Path, width: int, height: int, left_out: int) -> None:
    for number in range(5, 12):
        begin_trial(run, number)
        evaluate(run, number, [0.1] * 50)
        end_trial(run, number, 0.1)
    lines = lines_of(run, width, height)
    # What happens now and its bar stand below.
    assert len(lines) <= max(height, 10) - 2
    assert all(len(line) <= width for line in lines)
    best = [line for line in lines if line.startswith("    1 ")]
    assert len(best) == 1
    assert any(line.startswith("    3 ") for line in lines)
    assert f"… {left_out} more in leaderboard.json" in lines


def test_times_are_short() -> None:
    assert [clock(s) for s in (-3, 0.2, 59.5, 61, 3725)] == [
        "0 s",
        "1 s",
        "1:00",
        "1:01",
        "1:02:05",
    ]


def test_a_curve_is_scaled_to_itself() -> None:
    assert sparkline([0.0, None, 0.5, 1.0]) == "▁ ▅█"
    assert sparkline([0.3, 0.3]) == "▁▁"
    assert sparkline([0.0, 0.9, 1.0], width=2) == "▇█"
    assert sparkline([None]) == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_that_of_all_processes_of_a_run() -> None:
    alone = tree_bytes(os.getpid())
    code = "x = bytearray(64 << 20); print(flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        both = tree_bytes(os.getpid())
        child.communicate(b"\n")
    if alone is None or both is None:
        pytest.skip("this kernel does not tell a thread's children")
    assert 48 << 20 < both - alone < 512 << 20
    assert re.fullmatch(r"memory: \d+\.\d GiB held, \d+\.\d GiB free", memory_text(os.getpid()))
    assert "held" not in memory_text(None)
    assert tree_bytes(2**30) is None
    assert alone < 64 * GIB


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def wait_until(terminal: Terminal, text: str, timeout_s: float = 20) -> None:
    end_s = time.monotonic() + timeout_s
    while text not in terminal.getvalue():
        assert time.monotonic() < end_s, terminal.getvalue()
        time.sleep(0.02)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Stands for stderr, and is drawn on quickly."""
    terminal = Terminal()
    monkeypatch.setattr(live_module, "FRAME_S", 0.05)
    monkeypatch.setattr(live_module, "LOOK_S", 0.05)
    monkeypatch.setattr(live_module, "CPU_SHARE", 1.0)
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def console_on(terminal: Terminal) -> Console:
    return SteadyConsole(file=terminal, force_terminal=True, width=110, height=30, highlight=False)


def test_trials_are_shown_once_the_folder_is_known(run: Path, terminal: Terminal) -> None:
    with LiveRun(console_on(terminal)) as live:
        for _ in live.track(range(5), "reading", 5):
            time.sleep(0.06)
        assert "by accuracy" not in terminal.getvalue()
        live.follow(run)
        wait_until(terminal, "image_classification by accuracy · tiny_net")


def test_bars_and_log_lines_live_with_it(
    run: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = logging.StreamHandler(terminal)
    logger = logging.getLogger("autofocus.live_test")
    logging.getLogger().addHandler(handler)
    try:
        with LiveRun(console_on(terminal)) as live:
            live.follow(run)
            wait_until(terminal, "now: trial 4, epoch 2")
            for _ in live.track(range(3), "epoch 7", 3):
                wait_until(terminal, "epoch 7 ")
                logger.warning("a line for the log")
                time.sleep(0.06)
            sys.stderr.write("and one from elsewhere\n")
        assert handler.stream is terminal
    finally:
        logging.getLogger().removeHandler(handler)
    assert sys.stderr is terminal
    text = terminal.getvalue()
    assert text.count("a line for the log\n") == 3
    assert text.count("and one from elsewhere\n") == 1
    # The last picture stays, without what happened last.
    last = text[text.rindex("image_classification by accuracy") :]
    assert "running     80 images/s  learning_rate" in last
    assert "now:" not in last
    assert "epoch 7" not in last
    assert HIDE_CURSOR not in text


@pytest.mark.parametrize("num_trials", [1, None])
def test_a_single_run_has_bars_only(run: Path, terminal: Terminal, num_trials: int | None) -> None:
    if num_trials == 1:
        write_progress(run, num_trials=1)
    else:
        (run / "progress.json").unlink()
        write_run(run, search_space=None)
    with LiveRun(console_on(terminal)) as live:
        live.follow(run)
        for _ in live.track(range(5), "epoch 7", 5):
            time.sleep(0.06)
    assert "epoch 7" in terminal.getvalue()
    assert "accuracy" not in terminal.getvalue()


def test_an_error_in_the_picture_does_not_end_the_run(
    run: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("a bug")

    with LiveRun(console_on(terminal)) as live:
        live.follow(run)
        wait_until(terminal, "now: trial 4, epoch 2")
        monkeypatch.setattr(live_module, "view", broken)
        while live._painter.is_alive():
            time.sleep(0.02)
        assert list(live.track([1, 2], "epoch 7", 2)) == [1, 2]
    assert "nothing is shown of the trials any more" in caplog.text


def test_a_run_is_followed_until_it_ends(
    run: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(3))

    def sleep(seconds: float) -> None:
        if next(looks) == 1:
            (run / "result.json").write_text("{}")

    monkeypatch.setattr(live_module.time, "sleep", sleep)
    monkeypatch.chdir(run.parent)
    with hold_folder(run):
        follow_run(Path("run"), console_on(terminal))
    text = terminal.getvalue()
    assert text.count("now: trial 4, epoch 2") == 2
    assert "image_classification by accuracy · finished · tiny_net · run" in text
    assert list(looks) == [2]


def test_ctrl_c_ends_the_look_only(
    run: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(live_module.time, "sleep", sleep)
    with hold_folder(run):
        follow_run(run, console_on(terminal))
    assert terminal.getvalue().endswith("\n")


def fake(folder: Path, how: str, *options: str, trials: int = 2, epoch_s: float = 0.2) -> list[str]:
    arguments = [str(trials), how, str(epoch_s), "train", "--output-dir", str(folder), *options]
    return [sys.executable, str(FAKE), *arguments]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize(
    ("how", "status", "last"),
    [
        ("well", 0, "try it: autofocus serve"),
        ("fails", 1, "error: no trial had a model"),
        ("crashes", 1, "ZeroDivisionError: a bug"),
        ("SIGINT", 130, "stopped"),
    ],
)
def test_on_a_terminal(how: str, status: int, last: str, tmp_path: Path) -> None:
    found, text = on_a_terminal(fake(tmp_path / "run", how))
    assert found == status, text
    assert HIDE_CURSOR not in text
    lines = text.split("\r\n")
    assert "now: trial" in text or how != "well"
    (place,) = [number for number, line in enumerate(lines) if line.startswith(last)]
    # Whatever ends it stands on a line of its own below the last picture.
    assert any("by accuracy" in line for line in lines[:place])
    assert not any("by accuracy" in line for line in lines[place:])
    assert text.endswith("\r\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("trouble", ["json", "dumb"])
def test_not_where_it_would_be_in_the_way(trouble: str, tmp_path: Path) -> None:
    options = ["--json"] if trouble == "json" else []
    command = fake(tmp_path / "run", "well", *options, trials=1, epoch_s=0.0)
    status, text = on_a_terminal(command, "dumb" if trouble == "dumb" else "xterm")
    assert status == 0, text
    assert "trial 0 epoch 3, a line" in text
    assert "by accuracy" not in text


def test_plain_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    command = fake(tmp_path / "run", "well", epoch_s=0.0)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    lines = [line for line in done.stderr.splitlines() if "warn" not in line]
    assert [line.partition(",")[0] for line in lines] == [
        f"trial {number} epoch {epoch}" for number in range(2) for epoch in range(1, 4)
    ]


def on_a_terminal(command: list[str], term: str = "xterm") -> tuple[int, str]:
    """Run a command on a pseudo-terminal; return its status and what the terminal got."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": term, "COLUMNS": "100", "LINES": "30"}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        got, end_s = b"", time.monotonic() + 60
        while time.monotonic() < end_s:
            if not select.select([ours], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(ours, 1 << 16)
            except OSError:
                break
            if not data:
                break
            got += data
        else:
            process.send_signal(signal.SIGKILL)
    os.close(ours)
    return process.wait(), got.decode()
