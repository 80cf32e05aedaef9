"""Commands set the level of the log, which must not outlive a test."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _level_of_the_log() -> Iterator[None]:
    logger = logging.getLogger("autofocus")
    level = logger.level
    yield
    logger.setLevel(level)
