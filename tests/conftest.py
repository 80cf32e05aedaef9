"""Fixtures of all tests, which stand in `support/`, and a cache of their own."""

import os

import pytest

pytest_plugins = [
    "support.photos",
    "support.serving",
    "support.threads",
    "support.tiny_models",
]

# Test processes share the cores: a thread that spins while it waits keeps another from its work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache."""
    os.environ["AUTOFOCUS_CACHE"] = str(tmp_path_factory.mktemp("cache"))
