"""What comes from a server may have been written by anybody: no decoder raises anything but its own error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from coord.core.calls import Call, parse_reply
from coord.core.history import Line, parse_entry
from coord.core.records import Head, Kind, Record, StoredRecord
from coord.core.values import decode, encode
from coord.errors import CorruptRecord, NewerLayout
from coord.link.protocol import CommandConnection, SubscriberConnection
from coord.link.replies import explain, means_another_server
from coord.mounts.mountinfo import parse as parse_mountinfo
from security.fuzz import counted, fuzzing
from support.packing import pack

_RECORDS = (
    b'["fired",[1763820000000000,1],1763820000000001,"node"]\ntrue',
    b'["failed",[1763820000000000,2],1763820000000002,"n.o-d_e"]\n"disk on fire"',
    b'["pulsed",[1,3],1763820000000003,"n"]\n{"a": [1, 2.5, null]}',
    b'["reset",[1763820000000000,4],1763820000000004,"node","fired",[1763820000000000,1]]\ntrue',
    b'["reset",[1763820000000000,5],1763820000000005,"node"]\n',
)
_HEADS = (
    b"1 1763820000000000 7 0123456789abcdef fedcba9876543210 0 0",
    b"1 1763820000000000 7 0123456789abcdef fedcba9876543210 1763810000000000 99",
    b"1 1763820000000000 7 0123456789abcdef fedcba9876543210 0 0 9",
)
_REPLIES = (
    b"1763820000000000 7 1763820000000001\n+++",
    b"1763820000000000 7 1763820000000001\n-=%d:%s~!4:NOPE" % (len(_RECORDS[0]), _RECORDS[0]),
    b"1763820000000000 7 1763820000000001\n*%d:%s+-" % (len(_RECORDS[3]), _RECORDS[3]),
)
_JUNK = st.sampled_from(
    [b"", b" ", b"\n", b"-", b"0", b"9" * 17, b"9" * 400, b"\xff\xfe", b"[", b"]", b'"', b",", b"~", b"!", b":", b"\0"]
)


@st.composite
def _changed(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """Return one of the samples, with a few pieces cut out, doubled or replaced; or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    data = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 20)))
        data = data[:start] + draw(_JUNK | st.just(data[start:end] * 2) | st.binary(max_size=3)) + data[end:]
    return data


@given(_changed(_RECORDS))
@fuzzing
def test_records(payload: bytes) -> None:
    """A record is read, or refused with `ValueError`; its value is JSON, or `CorruptRecord`."""
    with counted("records"):
        try:
            stored = StoredRecord.parse(payload)
        except ValueError:
            return
        again = StoredRecord.parse(pack(stored))
        assert (again.kind, again.revision, again.wake_revision, again.data) == (
            stored.kind,
            stored.revision,
            stored.wake_revision,
            stored.data,
        )
        try:
            record = stored.record("m", "k")
        except CorruptRecord:
            return
        assert isinstance(record, Record)
        assert isinstance(record.node, str)
        if record.kind is not Kind.RESET:
            encode(record.value)


@given(_changed(_HEADS))
@fuzzing
def test_heads(payload: bytes) -> None:
    """A head is read, or refused with `ValueError`, or by the number of its layout."""
    with counted("heads"):
        try:
            head = Head.parse(payload)
        except (NewerLayout, ValueError):
            return
        assert head is not None
        assert head.revision >= (0, 0)
        assert head.follows >= (0, 0)


_FIELDS = st.lists(
    st.sampled_from([b"", b"key", b"1", b"1 2", b"1 2 3", b"\xff"]) | _changed(_RECORDS) | st.none() | st.integers(),
    max_size=8,
)
_IDENTIFIERS = st.sampled_from([b"1-1", b"1-", b"-", b"1-1-1", b"9-9", b"1-3", b"1763820000000000-5"])


@given(st.binary(max_size=8) | _IDENTIFIERS, _FIELDS | st.none(), st.none() | _changed(_RECORDS))
@fuzzing
def test_log_entries(identifier: bytes, fields: Any, standing: bytes | None) -> None:
    """An entry of the history is read, or refused with `CorruptRecord`."""
    with counted("log entries"):
        try:
            lines = parse_entry("m", identifier, fields, {b"key": standing} if standing is not None else {})
        except CorruptRecord:
            return
        assert all(isinstance(line, Line) for line in lines)


@given(
    st.lists(st.tuples(st.sampled_from([b"k", b"\xff", b"\n", b"k" * 600]), _changed(_RECORDS)), max_size=3),
    st.sampled_from([None, b"1 2", b"x", b"1 2 3"]),
)
@fuzzing
def test_log_entries_that_look_right(lines: list[tuple[bytes, bytes]], after: bytes | None) -> None:
    """The same, with all the fields that an entry may have; its lines are in order and name each other."""
    fields = [b"", after] if after is not None else []
    for line in lines:
        fields += line
    with counted("log entries"):
        try:
            read = parse_entry("m", b"1763820000000000-5", fields, {})
        except CorruptRecord:
            return
        assert len(read) == len(lines)
        assert [line.after for line in read[1:]] == [line.revision for line in read[:-1]]


@given(_changed(_REPLIES))
@fuzzing
def test_replies(reply: bytes) -> None:
    """The reply to a batch gives an outcome for each call, or `ValueError`."""
    calls = [Call(Kind.FIRED, b"k", b"true", 0.0, 0) for _ in range(3)]
    with counted("replies"):
        try:
            outcomes = list(parse_reply(reply, calls, "node"))
        except ValueError:
            return
        assert len(outcomes) == 3


@given(
    st.binary(max_size=40) | _changed([b'{"a":[1,2,{"b":null}],"c":"x"}', b"[" * 120, b"1e999", b"NaN", b'"\\ud800"'])
)
@fuzzing
def test_values(data: bytes) -> None:
    """A value is decoded, or refused with `ValueError`; what was decoded could have been fired."""
    with counted("values"):
        try:
            value = decode(data)
        except ValueError:
            return
        encode(value)


@given(st.text(max_size=60))
@fuzzing
def test_error_texts(words: str) -> None:
    """Whatever a server complains of becomes an error of ours."""
    with counted("error texts"):
        means_another_server(words)
        # The codes of our own scripts are not shown.
        code = next(
            (
                code
                for code in ("CORRUPT ", "GOAL ", "KIND ", "NEED ", "NEWER ", "OVER ", "REUSED ")
                if words.startswith(code)
            ),
            "",
        )
        assert words.removeprefix(code) in str(explain(words, "k"))


_MOUNTINFO = (
    b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n",
    b"25 1 8:2 / /a\\040b rw shared:1 master:2 - nfs4 host:/x rw\n",
)


@given(_changed(_MOUNTINFO))
@fuzzing
def test_mountinfo(data: bytes) -> None:
    """The kernel's mount table is read whatever stands in it."""
    with counted("mount tables"):
        parse_mountinfo(data)


class _Ears:
    """Takes what a subscriber passes on, and checks that it is what it should be."""

    def subscribed(self, channel: bytes) -> None:
        assert isinstance(channel, bytes)

    def unsubscribed(self, channel: bytes) -> None:
        assert isinstance(channel, bytes)

    def subscribe_refused(self, channels: Sequence[bytes], words: str) -> None:
        assert isinstance(words, str)

    def unsubscribe_refused(self, channels: Sequence[bytes], words: str) -> None:
        assert isinstance(words, str)

    def message_received(self, channel: bytes, payload: bytes) -> None:
        assert isinstance(channel, bytes)
        assert isinstance(payload, bytes)


_FRAMES = (
    b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\ntrue\r\n",
    b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
    b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n",
    b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
    b"-NOPERM no\r\n",
    b"*0\r\n",
    b"*1\r\n$7\r\nmessage\r\n",
    b"*3\r\n$7\r\nmessage\r\n:1\r\n*0\r\n",
    b"%1\r\n+a\r\n:1\r\n",
    b"%1\r\n*0\r\n:1\r\n",
    b"#f\r\n",
    b"_\r\n",
    b"+OK\r\n",
    b":1\r\n",
    b"*-1\r\n",
)


@given(st.lists(_changed(_FRAMES), max_size=5), st.booleans())
@fuzzing
def test_frames(frames: list[bytes], asking: bool) -> None:
    """Whatever arrives on either connection is passed on in the right types, or passed over, or ends it."""
    lost: list[str] = []
    with counted("frames"):
        subscriber = SubscriberConnection(lost.append)
        subscriber.makeConnection(StringTransport())
        subscriber.set_listener(_Ears())
        if asking:
            subscriber.subscribe([b"c"])
            subscriber.unsubscribe([b"c", b"d"])
        command = CommandConnection(lost.append)
        command.makeConnection(StringTransport())
        answers = [command.ask(b"PING").addErrback(lambda _: None) for _ in range(asking)]
        for frame in frames:
            for connection in (subscriber, command):
                if not connection.transport.disconnecting:
                    connection.dataReceived(frame)
        assert len(answers) == asking
