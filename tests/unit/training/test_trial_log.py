"""The log of a trial: what it works with on top, then its own lines and no others."""

import logging
import time
from pathlib import Path

import pytest
import torch

from autofocus.manifest import WeightsInfo
from autofocus.models import catalog
from autofocus.models.weights.load import LoadedWeights
from autofocus.training.candidate import Samples
from autofocus.training.trial_log import LOG_NAME, trial_facts, trial_log

log = logging.getLogger("autofocus.training.anything")


@pytest.fixture(autouse=True)
def _verbose(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "autofocus")


def test_a_trials_lines_stand_below_its_facts(tmp_path: Path) -> None:
    folder = tmp_path / "trials" / "1"
    log.info("before")
    with trial_log(folder, {"data": "photos", "precision": "bf16"}):
        log.info("epoch %d", 1)
        log.debug("not asked for")
    log.info("after")
    with trial_log(folder, {"data": "photos", "precision": "bf16"}):
        log.warning("resumed")
    lines = (folder / LOG_NAME).read_text(encoding="utf-8").splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines[:3]] == ["began", "data", "precision"]
    assert lines[1:3] == ["data       photos", "precision  bf16"]
    assert lines[3].endswith(" epoch 1")
    assert lines[4].startswith("began ")
    assert lines[7].endswith(" resumed")
    assert len(lines) == 8
    assert logging.getLogger("autofocus").handlers == []


def test_an_error_lets_go_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"), trial_log(tmp_path, {}):
        raise ValueError("bad")
    assert logging.getLogger("autofocus").handlers == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_line_that_cannot_be_written_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with trial_log(tmp_path, {}):
        (handler,) = logging.getLogger("autofocus").handlers
        assert isinstance(handler, logging.FileHandler)
        handler.stream.close()
        handler.stream = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115  closed by the log
        log.info("lost")
    assert handler.stream is None
    assert "Traceback" not in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / LOG_NAME).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"), trial_log(tmp_path / "full", {}):
        pytest.fail("a disk that is full from the start is said")


def test_facts_name_data_model_weights_licence_device_precision_and_budget() -> None:
    spec = catalog.resolve("test_resnet")
    weights = LoadedWeights(spec, None, WeightsInfo("embedded", "apache-2.0", "ab12"), "line")
    train = Samples([None] * 7, ["x"] * 7, "photos")
    device = torch.device("cpu")
    facts = trial_facts("net", train, None, weights, device, "no", time.monotonic() + 90.4)
    assert facts["data"] == "photos: 7 images to learn from, a share of them to judge by"
    assert facts["model"] == "net"
    assert facts["weights"] == "embedded ab12"
    assert facts["licence"] == "apache-2.0"
    assert facts["device"] == "cpu, 1 thread"
    assert facts["precision"] == "fp32"
    assert facts["budget"] == "90 s left"
    other = trial_facts("net", train, train, weights, device, "bf16", None)
    assert (other["precision"], other["budget"]) == ("bf16", "none")
    assert other["data"] == "photos: 7 images to learn from, 7 images to judge by"
