"""Who accepts a connection: the worker that has fewest, or after a moment any."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial

import pytest

from autofocus.serve.accept import Acceptor, Counts
from autofocus.serve.run import bind
from autofocus.serve.settings import Settings


def test_a_worker_is_ahead_of_those_that_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts(3)
    counts.join(0)
    counts.add(0, 5)
    assert not counts.is_ahead(0)
    counts.join(1)
    counts.add(1, 5)
    counts.add(1, -1)
    assert counts.is_ahead(0)
    assert not counts.is_ahead(1)
    counts.add(0, 96)
    counts.add(1, 90)
    assert (counts.is_ahead(0), counts.is_ahead(1)) == (False, False)
    counts.add(0, 10)
    assert counts.is_ahead(0)
    monkeypatch.setattr("autofocus.serve.accept._ABSENT_S", -1.0)
    assert not counts.is_ahead(0)
    monkeypatch.undo()
    counts.leave(1)
    assert not counts.is_ahead(0)


async def connected(port: int, number: int, is_done: Callable[[], bool]) -> list[socket.socket]:
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(number)]
    for _ in range(500):
        if is_done():
            return clients
        await asyncio.sleep(0.005)
    raise AssertionError("they were not accepted")


def test_eight_connections_are_four_each_though_one_worker_is_quicker() -> None:
    counts = Counts(2)
    accepted: list[list[socket.socket]] = [[], []]

    async def connect(worker: int, sock: socket.socket) -> None:
        # As late as a busy event loop does it.
        await asyncio.sleep(0.01 * (1 - worker))
        accepted[worker].append(sock)

    async def scenario() -> None:
        with bind(Settings(port=0)) as sock:
            copies = [sock.dup(), sock.dup()]
            acceptors = []
            for worker, copy in enumerate(copies):
                counts.join(worker)
                take = partial(connect, worker)
                acceptors.append(Acceptor(copy, take, counts, worker, lambda: None))
            port = sock.getsockname()[1]
            clients = await connected(port, 8, lambda: sum(map(len, accepted)) == 8)
            for end in (*clients, *accepted[0], *accepted[1]):
                end.close()
            for acceptor in acceptors:
                acceptor.close()

    asyncio.run(scenario())
    assert [len(each) for each in accepted] == [4, 4]


def test_one_that_is_ahead_accepts_what_the_others_leave_and_at_the_end_all() -> None:
    accepted: list[socket.socket] = []

    async def connect(sock: socket.socket) -> None:
        accepted.append(sock)

    async def scenario() -> None:
        sock = bind(Settings(port=0))
        counts = Counts(2)
        # The other one has none and accepts none.
        for worker in (0, 1):
            counts.join(worker)
        counts.add(0, 1)
        acceptor = Acceptor(sock, connect, counts, 0, lambda: None)
        port = sock.getsockname()[1]
        clients = await connected(port, 2, lambda: len(accepted) == 2)
        clients += [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        acceptor.close()
        await asyncio.sleep(0)
        for end in (*clients, *accepted):
            end.close()

    asyncio.run(scenario())
    assert len(accepted) == 5
