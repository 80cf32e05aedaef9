"""Pages of the reference hold what the code declares."""

from pathlib import Path

import pytest
from doc_tables import PAGES, TABLES, table, written


@pytest.mark.parametrize("path", sorted(PAGES.rglob("*.md")), ids=lambda path: path.name)
def test_tables_are_what_the_code_declares(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert written(page) == page, "run scripts/docs"


def test_every_table_stands_on_a_page() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in PAGES.rglob("*.md"))
    assert [name for name in TABLES if f"<!-- table: {name} -->" not in pages] == []


def test_a_table_is_written_anew_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "lenses", lambda: table(("a", ""), [("x|y", "")]))
    page = "# Page\n\n<!-- table: lenses -->\nold\n<!-- end -->\n\nby hand\n"
    made = "| a | |\n|---|---|\n| x\\|y | |\n"
    assert written(page) == page.replace("old\n", made)
    assert written(written(page)) == written(page)
    with pytest.raises(KeyError, match="cameras"):
        written(page.replace("lenses", "cameras"))
