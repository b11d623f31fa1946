"""One connection of a test's own, which keeps what the server says unasked."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import hiredis
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from support.servers import Refused, Word
from support.waiting import until

__all__ = ["Client", "connected"]

# In RESP2, what tells a message or a confirmation from an answer is its first word.
_UNASKED: Final = (b"smessage", b"ssubscribe", b"sunsubscribe", b"message", b"subscribe", b"unsubscribe")


class Client(Protocol):
    """A connection; ``heard`` are the messages, the confirmations and the errors that answer no `ask`."""

    transport: Any

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.lost = False
        self._reader = hiredis.Reader(replyError=Refused)
        self._waiting: deque[Deferred[Any]] = deque()

    async def ask(self, *words: Word) -> Any:
        """Return the answer; an error is returned as its text, which begins with ``-``."""
        answer: Deferred[Any] = Deferred()
        self._waiting.append(answer)
        self.tell(*words)
        return await answer

    def tell(self, *words: Word) -> None:
        """Send a command whose answer is to be among what is ``heard``."""
        self.transport.write(hiredis.pack_command(tuple(words)))

    async def hear(self, number: int = 1) -> list[Any]:
        """Return the next things heard, as many as this."""
        await until(lambda: len(self.heard) >= number or self.lost, f"{number} heard, there is {self.heard}")
        said, self.heard = self.heard[:number], self.heard[number:]
        return said

    async def close(self) -> None:
        """Close it."""
        self.transport.loseConnection()
        await until(lambda: self.lost, "the connection ends")

    def dataReceived(self, data: bytes) -> None:
        """Sort what has come."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            said = f"-{reply}" if isinstance(reply, Refused) else reply
            if self._unasked(said) or not self._waiting:
                self.heard.append(list(said) if isinstance(said, list) else said)
            else:
                self._waiting.popleft().callback(said)

    @staticmethod
    def _unasked(said: Any) -> bool:
        if isinstance(said, hiredis.PushNotification):
            return True
        return isinstance(said, list) and bool(said) and said[0] in _UNASKED

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail what has no answer."""
        self.lost = True
        waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            answer.errback(ConnectionError("the server said no more"))


async def connected(endpoint: Any) -> Client:
    """Return a new connection."""
    client: Client = await endpoint.connect(Factory.forProtocol(Client))
    return client
