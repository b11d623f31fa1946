"""Standard output, written without stopping the reactor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from coord.cli._exits import CannotWrite, OutputClosed
from coord.cli._output import Output


class _Reactor:
    """Remembers who wants to write or to be told that the reader has gone."""

    def __init__(self) -> None:
        self.writers: set[Any] = set()
        self.readers: set[Any] = set()
        self.addWriter = self.writers.add
        self.addReader = self.readers.add
        self.removeWriter = self.writers.discard
        self.removeReader = self.readers.discard


@pytest.fixture
def reactor() -> _Reactor:
    """Give a reactor that does nothing by itself."""
    return _Reactor()


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    """Give both ends of a pipe, in a list from which a test may take those that it closes."""
    ends = list(os.pipe())
    yield ends
    for end in ends:
        os.close(end)


def _line(output: Output, text: str) -> Deferred[None]:
    return Deferred.fromCoroutine(output.line(text))


def test_a_line_is_written_at_once_where_there_is_room(reactor: _Reactor, pipe: list[int]) -> None:
    """The usual line goes out without a turn of the reactor, in UTF-8."""
    done = _line(Output(reactor, pipe[1]), "é")
    assert done.called
    assert os.read(pipe[0], 99) == "é\n".encode()


def test_a_full_pipe_waits_for_its_reader(reactor: _Reactor, pipe: list[int]) -> None:
    """A line that does not fit is written as its reader makes room, and nothing blocks meanwhile."""
    text = "x" * 200_000
    output = Output(reactor, pipe[1])
    done = _line(output, text)
    read = b""
    while not done.called:
        assert reactor.writers == {output}
        read += os.read(pipe[0], 1 << 16)
        output.doWrite()
    while len(read) <= len(text):
        read += os.read(pipe[0], 1 << 16)
    assert read == text.encode() + b"\n"
    assert not reactor.writers


def test_a_cancelled_line_leaves_the_reactor(reactor: _Reactor, pipe: list[int]) -> None:
    """A signal while nobody reads ends the wait for room."""
    done = _line(Output(reactor, pipe[1]), "x" * 200_000)
    ended: list[object] = []
    done.addErrback(ended.append)
    done.cancel()
    assert ended
    assert not reactor.writers


def test_a_closed_pipe_is_told_apart(reactor: _Reactor, pipe: list[int]) -> None:
    """Writing to a pipe that nobody reads raises OutputClosed."""
    os.close(pipe.pop(0))
    failures: list[Any] = []
    _line(Output(reactor, pipe[0]), "x").addErrback(failures.append)
    assert isinstance(failures[0].value, OutputClosed)


def test_the_readers_going_is_noticed_without_a_write(reactor: _Reactor, pipe: list[int]) -> None:
    """Who asked is told once when the reader goes."""
    told: list[bool] = []
    output = Output(reactor, pipe[1])
    output.on_hangup(lambda: told.append(True))
    assert reactor.readers == {output}
    output.connectionLost(None)  # type: ignore[arg-type]
    output.connectionLost(None)  # type: ignore[arg-type]
    assert told == [True]


def test_a_file_is_not_waited_for(reactor: _Reactor) -> None:
    """A plain device is neither polled nor watched."""
    with open(os.devnull, "wb") as null:  # noqa: PTH123
        output = Output(reactor, null.fileno())
        output.on_hangup(lambda: None)
        assert _line(output, "x").called
    assert not reactor.readers


def test_a_full_disk_is_an_error_of_its_own(reactor: _Reactor) -> None:
    """What the system says about a failed write is passed on."""
    failures: list[Any] = []
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        _line(Output(reactor, full.fileno()), "x").addErrback(failures.append)
    assert isinstance(failures[0].value, CannotWrite)
    assert "No space left" in str(failures[0].value)
