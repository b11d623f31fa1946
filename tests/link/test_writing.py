"""How commands leave a connection: at once, in order, and never around what wraps the socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hiredis
import pytest
from twisted.internet import reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from coord.clock import steady
from coord.link.protocol import CommandConnection, connect_to
from support.waiting import until


class Server(Protocol):
    """Reads nothing before it is told to, and then keeps every command."""

    transport: Any = None

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self.commands: list[list[bytes]] = []
        self.lost = False

    def connectionMade(self) -> None:
        """Let the kernel's buffers fill up."""
        self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        """Keep what is whole."""
        self._reader.feed(data)
        while (command := self._reader.gets()) is not False:
            self.commands.append(command)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep no socket."""
        self.lost = True


def _connection() -> CommandConnection:
    return CommandConnection(lambda _: None)


async def test_what_the_kernel_does_not_take_at_once_keeps_its_place() -> None:
    """A small command that the kernel has room for again does not overtake what is still in Twisted's buffers."""
    server, connection = Server(), _connection()
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Factory.forProtocol(lambda: server))
    await connect_to(clientFromString(steady(reactor), f"tcp:127.0.0.1:{port.getHost().port}"), connection)
    connection.write_directly()
    await until(lambda: server.transport is not None)
    sizes = [100_000, 3] * 200

    def ask(number: int) -> None:
        connection.ask(b"SET", b"%d" % number, b"x" * sizes[number]).addErrback(lambda _: None)

    for number in range(len(sizes) - 8):
        ask(number)
    assert connection.transport._tempDataBuffer, "the kernel took everything"
    for number in range(len(sizes) - 8, len(sizes) - 1):
        # The reactor has no turn in which it could send what is kept.
        server.dataReceived(server.transport.socket.recv(200_000))
        ask(number)
    server.transport.resumeProducing()
    await until(lambda: len(server.commands) == len(sizes) - 1)
    ask(len(sizes) - 1)
    await until(lambda: len(server.commands) == len(sizes))
    assert [(int(key), len(value)) for _, key, value in server.commands] == [*enumerate(sizes)]
    connection.transport.abortConnection()
    await until(lambda: server.lost and not connection.connected)
    await port.stopListening()


def test_a_command_is_with_the_kernel_when_ask_returns() -> None:
    """It does not wait for the reactor's next round."""

    class Socket(FileDescriptor):
        connected = 1
        sent = b""

        def writeSomeData(self, data: bytes) -> int:
            self.sent += data
            return len(data)

    connection, socket = _connection(), Socket(reactor)
    connection.makeConnection(socket)
    connection.write_directly()
    connection.ask(b"GET", b"k")
    assert socket.sent == hiredis.pack_command((b"GET", b"k"))


def test_what_wraps_a_socket_is_not_gone_around() -> None:
    """TLS shows the socket's methods as its own: with those the password would go out in plain text."""

    class Socket(FileDescriptor):
        connected = 1

        def writeSomeData(self, data: bytes) -> int:
            raise AssertionError(f"in plain text: {data!r}")

    class Wrapper:
        def __init__(self) -> None:
            self._inner, self.written = Socket(reactor), b""

        def write(self, data: bytes) -> None:
            self.written += data

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    connection, wrapper = _connection(), Wrapper()
    connection.makeConnection(wrapper)
    connection.write_directly()
    connection.ask(b"AUTH", b"secret")
    assert wrapper.written == hiredis.pack_command((b"AUTH", b"secret"))


def test_what_lets_others_go_first_travels_with_the_command() -> None:
    """Its answer is nobody's, and the command gets its own."""
    connection, transport = _connection(), StringTransport()
    connection.makeConnection(transport)
    ping, get = hiredis.pack_command((b"PING",)), hiredis.pack_command((b"GET", b"k"))
    answers: list[Any] = []
    for others_first in (False, True):
        answer: Deferred[Any] = connection.ask(b"GET", b"k", others_first=others_first)
        answer.addCallback(answers.append)
    assert transport.value() == get + ping + get
    connection.dataReceived(b"$1\r\nu\r\n+PONG\r\n$1\r\nv\r\n")
    assert answers == [b"u", b"v"]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_small_commands_are_not_held_back(kind: str, tmp_path: Path) -> None:
    """Nagle's algorithm is off, where there is one: it would hold a command until the one before is acknowledged."""
    server, connection = Server(), _connection()
    where = "tcp:0:interface=127.0.0.1" if kind == "tcp" else f"unix:{tmp_path}/s"
    port = await serverFromString(reactor, where).listen(Factory.forProtocol(lambda: server))
    to = f"tcp:127.0.0.1:{port.getHost().port}" if kind == "tcp" else f"unix:{tmp_path}/s"
    await connect_to(clientFromString(steady(reactor), to), connection)
    connection.write_directly()
    await until(lambda: server.transport is not None)
    server.transport.resumeProducing()
    if kind == "tcp":
        assert connection.transport.getTcpNoDelay()
    connection.transport.abortConnection()
    await until(lambda: server.lost and not connection.connected)
    await port.stopListening()
