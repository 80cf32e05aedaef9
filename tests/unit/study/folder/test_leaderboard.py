"""The leaderboard: order, ties, replacement, and nothing that varies from run to run."""

import json

from autofocus.study.folder.leaderboard import Leaderboard


def row(name: str, value: float | None, seconds: float = 1.0) -> dict:
    return {"id": name, "value": value, "seconds": seconds}


def ids(board: Leaderboard) -> list[str]:
    return [entry["id"] for entry in json.loads(board.json())]


def test_best_first_then_by_number_and_the_undefined_last() -> None:
    board = Leaderboard()
    for entry in (row("10", 0.5), row("2", 0.5), row("3", None), row("0", 0.9), row("probe", 0.5)):
        board.add(entry)
    assert ids(board) == ["0", "probe", "2", "10", "3"]


def test_order_of_arrival_changes_no_byte() -> None:
    rows = [row("0", 0.1), row("1", None), row("2", -0.3), row("3", 0.1), row("4", 0.0)]
    boards = []
    for order in (rows, rows[::-1]):
        board = Leaderboard()
        for number, entry in enumerate(order):
            board.add(entry | {"seconds": number * 1.5})
        boards.append(board.json())
    assert boards[0] == boards[1]
    assert b"seconds" not in boards[0]


def test_a_row_takes_the_place_of_what_was_known_of_its_trial() -> None:
    board = Leaderboard()
    for value in (0.2, 0.9, None):
        board.add(row("0", value))
        board.add(row("1", 0.5))
        assert sorted(ids(board)) == ["0", "1"]
    assert ids(board) == ["1", "0"]


def test_empty_is_json_too() -> None:
    assert json.loads(Leaderboard().json()) == []
