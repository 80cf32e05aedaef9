"""The real command, killed and stopped while it scores: every image once, never half a line."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.commands import command_line
from support.photos import draw_photo, write_photo

NUM_IMAGES = 240
# Lines after which a signal comes.
MOMENTS = (1, 60, 150)


@pytest.fixture(scope="module")
def many_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names of one photo that takes so long to decode that a batch of it can be hit."""
    folder = tmp_path_factory.mktemp("many")
    write_photo(folder / "0000.jpg", draw_photo((200, 60, 40), 0, (1500, 2000)))
    for i in range(1, NUM_IMAGES):
        (folder / f"{i:04}.jpg").hardlink_to(folder / "0000.jpg")
    return folder


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def signalled(command: list[str], output: Path, number: int, after: int) -> tuple[int, str]:
    """Start the command and signal it once so many lines are there; return how it ended."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    partial = output.with_name(f"{output.name}.partial")
    while num_lines(partial) < after and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    return process.returncode, told


def names(output: Path) -> list[str]:
    return [json.loads(line)["filename"] for line in output.read_text().splitlines()]


@pytest.fixture
def command(tiny_model: Path, many_photos: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    def make(name: str) -> list[str]:
        return command_line("batch", tiny_model, many_photos, "-o", tmp_path / name)

    return make


def test_three_kills_lose_and_double_nothing(
    command: Callable[[str], list[str]], many_photos: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    for after in MOMENTS:
        status, _ = signalled(command(output.name), output, signal.SIGKILL, after)
        assert status == -signal.SIGKILL
        assert not output.exists()
    # As a kill within a write leaves it.
    partial = tmp_path / "out.jsonl.partial"
    os.truncate(partial, partial.stat().st_size - 7)
    whole = num_lines(partial)
    assert MOMENTS[-1] - 1 <= whole < NUM_IMAGES
    done = subprocess.run([*command(output.name), "--json"], capture_output=True, check=True)
    assert json.loads(done.stdout)["num_before"] == whole
    assert names(output) == [str(file) for file in sorted(many_photos.iterdir())]
    subprocess.run(command("at_once.jsonl"), capture_output=True, check=True)
    assert output.read_bytes() == (tmp_path / "at_once.jsonl").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_clean_and_says_how_to_go_on(
    command: Callable[[str], list[str]], tmp_path: Path, number: int
) -> None:
    output = tmp_path / "out.jsonl"
    status, told = signalled(command(output.name), output, number, 20)
    assert status == 130
    assert f"of {NUM_IMAGES} images. The same command goes on from there" in told
    assert "Traceback" not in told
    partial = tmp_path / "out.jsonl.partial"
    assert partial.read_bytes().endswith(b"}\n")
    assert f"stopped after {num_lines(partial)} of" in told
