"""Code is compiled once, and without any folder to keep it in it still runs."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
from autofocus.explain.compiled import compiled

@compiled
def double(x: int) -> int:
    return 2 * x
"""


def _run(folder: Path, code: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **env},
    )
    return done.stdout.strip()


def test_a_second_process_loads_what_the_first_compiled(tmp_path: Path) -> None:
    (tmp_path / "doubled.py").write_text(MODULE)
    code = "from doubled import double; print(double(21), dict(double.stats.cache_hits))"
    assert _run(tmp_path, code) == "42 {}"
    assert _run(tmp_path, code).startswith("42 {(int64,): 1")


# Root may write into read-only folders: a file where the folder should be stops root too.
@pytest.mark.parametrize("cache", ["cache", "no-folder/cache"])
def test_where_numba_finds_no_folder_ours_is_taken_or_none(tmp_path: Path, cache: str) -> None:
    (tmp_path / "no-folder").write_text("a file")
    code = (
        "import numba.core.caching as caching;"
        "caching.CacheImpl._locator_classes = [caching.UserProvidedCacheLocator];"
        f"exec(compile({MODULE!r}, {str(tmp_path / 'doubled.py')!r}, 'exec'));"
        "print(double(21))"
    )
    (tmp_path / "doubled.py").write_text(MODULE)
    assert _run(tmp_path, code, AUTOFOCUS_CACHE=str(tmp_path / cache)) == "42"
    kept = list((tmp_path / "cache").rglob("*.nbi")) if (tmp_path / "cache").is_dir() else []
    assert bool(kept) == (cache == "cache")
    assert all(path.stat().st_mode & stat.S_IRUSR for path in kept)
