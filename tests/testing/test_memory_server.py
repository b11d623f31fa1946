"""The server in memory: its clock, its commands and its faults."""

from __future__ import annotations

import hashlib

import pytest
from twisted.internet import error
from twisted.internet.task import Clock

from coord.testing import Delivery
from memory import MemoryServer
from memory.commands import MemoryCommands
from testing.memory_client import World

START = 1_763_820_000
NOBODY_THERE = "return redis.call('PUBLISH', 'channel', 'word')"


def text(reply: object) -> str:
    """Return an error's words."""
    assert isinstance(reply, Exception), reply
    return str(reply)


def test_time_is_the_clocks() -> None:
    """TIME, also in a script, follows the test's clock, and steps with the server's."""
    world = World()
    client = world.client()
    assert world.ask(client, "TIME") == [b"%d" % START, b"0"]
    world.clock.advance(1.5)
    assert world.ask(client, "EVAL", "return redis.call('TIME')", 0) == [b"%d" % (START + 1), b"500000"]
    world.server.step_clock(-3600)
    assert world.ask(client, "TIME") == [b"%d" % (START - 3599), b"500000"]


def test_keys_expire_on_the_clock() -> None:
    """A key with a TTL goes when the clock says so, or when the server's clock is set forward."""
    world = World()
    client = world.client()
    world.ask(client, "SET", "a", 1, "PX", 1500)
    world.ask(client, "SET", "b", 1, "PX", 60_000)
    world.clock.advance(1.4)
    assert world.ask(client, "PTTL", "a") == 100
    world.clock.advance(0.2)
    assert world.ask(client, "GET", "a") is None
    world.server.step_clock(60)
    assert world.ask(client, "EXISTS", "a", "b") == 0


def test_stream_ids_follow_the_clock() -> None:
    """An id that XADD makes is the server's time."""
    world = World()
    client = world.client()
    world.clock.advance(2.25)
    assert world.ask(client, "XADD", "log", "*", "field", "value") == b"%d250-0" % (START + 2)


def test_a_reactors_clock_shows_the_time_of_day() -> None:
    """A clock that counts from the epoch is taken as it is."""
    clock = Clock()
    clock.advance(1_800_000_000)
    assert MemoryServer(clock).now() == 1_800_000_000


def test_subscribers_count_while_they_are_there() -> None:
    """PUBLISH, PUBSUB and `channels` count a subscriber until its connection is gone."""
    world = World()
    client, first, second = world.client(), world.client(), world.client()
    assert world.ask(first, "SUBSCRIBE", "channel") == [b"subscribe", b"channel", 1]
    world.ask(second, "SUBSCRIBE", "channel")
    assert world.server.channels == {"channel": 2}
    assert world.ask(client, "PUBLISH", "channel", b"\x00\r\n\xff") == 2
    assert first.replies[-1] == [b"message", b"channel", b"\x00\r\n\xff"]
    first.transport.loseConnection()
    world.settle()
    assert world.ask(client, "PUBSUB", "NUMSUB", "channel", "other") == [b"channel", 1, b"other", 0]
    second.transport.abortConnection()
    world.settle()
    assert world.ask(client, "PUBLISH", "channel", "word") == 0
    assert world.ask(client, "PUBSUB", "CHANNELS") == []
    client.transport.loseConnection()
    world.settle()
    world.assert_nothing_is_left()


def test_messages_go_out_in_the_order_of_subscription() -> None:
    """Subscribers are told in the order they came, in every run of a test."""
    told: list[int] = []

    def deliver(delivery: Delivery) -> float:
        told.append(delivery.connection)
        return 0.0

    world = World(deliver)
    publisher = world.client()
    for subscriber in [world.client() for _ in range(20)]:
        world.ask(subscriber, "SUBSCRIBE", "channel")
    told.clear()
    assert world.ask(publisher, "PUBLISH", "channel", "word") == 20
    # Its command, the messages, its reply.
    assert told == [1, *range(2, 22), 1]


def test_a_reply_never_comes_in_the_turn_of_its_command() -> None:
    """What a client sends is answered in a later turn of the reactor."""
    world = World()
    client = world.client()
    client.send("PING")
    assert client.replies == []
    world.settle()
    assert client.replies == [b"PONG"]


def test_commands_may_come_in_pieces_and_together() -> None:
    """A command cut anywhere is one command; two in one piece are two."""
    world = World()
    client = world.client()
    words = b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n"
    for byte in words:
        client.transport.write(bytes([byte]))
        world.settle()
    client.transport.write(words + words)
    world.settle()
    assert client.replies == [b"a\r\n"] * 3


def test_what_is_no_command_ends_the_connection() -> None:
    """Bytes that are not RESP get a protocol error, and no more."""
    world = World()
    client = world.client()
    client.transport.write(b"GET / HTTP/1.1\r\n\r\n")
    world.settle()
    assert text(client.replies[0]).startswith("ERR Protocol error")
    assert client.lost is error.ConnectionDone
    world.assert_nothing_is_left()


def test_info_names_the_process() -> None:
    """INFO tells the run id and the role, in a script too; another process has another id."""
    world = World()
    client = world.client()
    run_id = world.server.run_id
    assert len(run_id) == 40
    info = world.ask(client, "INFO", "server", "replication").decode()
    assert f"\r\nrun_id:{run_id}\r\n" in info
    assert "\r\nrole:master\r\n" in info
    script = "return redis.call('INFO', 'server'):match('run_id:(%x+)')"
    assert world.ask(client, "EVAL", script, 0) == run_id.encode()
    world.server.start()
    assert world.server.run_id != run_id
    assert MemoryServer(world.clock).run_id not in (run_id, world.server.run_id)
    # Elsewhere it may be the same: a schedule replays to the byte.
    assert World().server.run_id == run_id


def test_a_slave_says_so_and_refuses_writes() -> None:
    """ROLE and INFO tell a replica, and writing to it is refused, also from a script."""
    world = World()
    client = world.client()
    assert world.ask(client, "ROLE") == [b"master", 0, []]
    world.server.role = "slave"
    assert world.ask(client, "ROLE")[0] == b"slave"
    assert b"role:slave" in world.ask(client, "INFO")
    assert text(world.ask(client, "SET", "a", 1)).startswith("READONLY ")
    assert text(world.ask(client, "EVAL", "return redis.call('SET', 'a', 1)", 0)).startswith("READONLY ")
    assert world.ask(client, "GET", "a") is None


def test_out_of_memory_refuses_what_takes_some() -> None:
    """Without memory a script's SET fails and what comes after it is not done; PUBLISH and DEL are."""
    world = World()
    client = world.client()
    world.ask(client, "SET", "a", 1)
    world.server.out_of_memory = True
    script = f"redis.call('SET', 'a', 2) {NOBODY_THERE}"
    assert text(world.ask(client, "EVAL", script, 0)).startswith("OOM ")
    assert world.ask(client, "PUBLISH", "channel", "word") == 0
    assert world.ask(client, "GET", "a") == b"1"
    assert world.ask(client, "DEL", "a") == 1


def test_a_loading_server_answers_little() -> None:
    """While it loads, commands get LOADING; INFO is answered."""
    world = World()
    client = world.client()
    world.server.loading = True
    assert text(world.ask(client, "GET", "a")).startswith("LOADING ")
    assert text(world.ask(client, "EVAL", "return 1", 0)).startswith("LOADING ")
    assert b"loading:1" in world.ask(client, "INFO")


def test_wait_answers_the_replicas() -> None:
    """WAIT answers at once where enough replicas are there, when they come, or after its time-out."""
    world = World()
    client = world.client()
    world.server.replicas = 2
    assert world.ask(client, "WAIT", 1, 1000) == 2
    for seconds, came in ((1.0, 2), (0.5, 3)):
        client.replies.clear()
        client.send("WAIT", 3, 1000)
        client.send("PING")
        world.settle()
        assert client.replies == []
        world.clock.advance(seconds)
        world.server.replicas = came
        world.settle()
        assert client.replies == [came, b"PONG"]
    client.send("WAIT", 9, 0)
    world.settle()
    client.transport.loseConnection()
    world.settle()
    world.assert_nothing_is_left()


def test_a_blocking_pop_waits_for_its_word() -> None:
    """BLPOP is answered when somebody pushes, or when its time is up."""
    world = World()
    client, other = world.client(), world.client()
    client.send("BLPOP", "list", 5)
    world.settle()
    world.ask(other, "RPUSH", "list", "a")
    assert client.replies == [[b"list", b"a"]]
    client.send("BLPOP", "list", 5)
    world.settle()
    world.clock.advance(5)
    assert client.replies[1:] == [None]


def test_a_password_is_asked_of_those_who_come() -> None:
    """Without the password nothing runs; one that is changed later does not touch who is in."""
    world = World()
    early = world.client()
    world.server.set_password("secret")
    late = world.client()
    assert world.ask(early, "PING") == b"PONG"
    assert text(world.ask(late, "GET", "a")) == "NOAUTH Authentication required."
    assert text(world.ask(late, "AUTH", "wrong")).startswith("WRONGPASS ")
    assert world.ask(late, "AUTH", "secret") == b"OK"
    assert world.ask(late, "GET", "a") is None
    world.server.set_password("another")
    assert world.ask(late, "GET", "a") is None
    assert world.ask(world.client(), "AUTH", "default", "another") == b"OK"
    world.server.set_password(None)
    assert world.ask(world.client(), "PING") == b"PONG"


def test_a_user_may_do_what_its_rules_say() -> None:
    """A refused PUBLISH in a script leaves what was set before it, as in Redis."""
    world = World()
    client = world.client()
    world.ask(client, "ACL", "SETUSER", "worker", "on", ">pw", "resetchannels", "&mine:*", "~mine:*", "+@all")
    assert world.ask(client, "AUTH", "worker", "pw") == b"OK"
    assert text(world.ask(client, "MGET", "mine:a", "yours:a")).startswith("NOPERM ")
    assert text(world.ask(client, "SUBSCRIBE", "mine:a", "yours:a")).startswith("NOPERM ")
    script = f"redis.call('SET', KEYS[1], 1) {NOBODY_THERE}"
    assert "can't publish to the channel" in text(world.ask(client, "EVAL", script, 1, "mine:a"))
    assert world.ask(client, "GET", "mine:a") == b"1"


def test_stop_and_start() -> None:
    """A stopped server drops everybody and refuses; it comes back with its data and without its scripts."""
    world = World()
    client = world.client()
    world.ask(client, "SET", "a", 1)
    digest = world.ask(client, "SCRIPT", "LOAD", "return 1")
    world.server.stop()
    world.settle()
    assert client.lost is error.ConnectionDone
    world.assert_nothing_is_left()
    refused = world.attempt()
    world.settle()
    assert refused[0].check(error.ConnectionRefusedError)
    world.assert_nothing_is_left()

    world.server.start()
    client = world.client()
    assert world.ask(client, "GET", "a") == b"1"
    assert text(world.ask(client, "EVALSHA", digest, 0)).startswith("NOSCRIPT ")
    world.server.start(data="empty")
    world.settle()
    assert client.lost is error.ConnectionDone
    assert world.ask(world.client(), "GET", "a") is None


def test_a_reply_that_was_not_sent_is_lost_with_the_server() -> None:
    """A command that was applied as the server died stays applied, and is not answered."""
    world = World()
    client = world.client()
    world.server.hang()
    client.send("SET", "a", 1)
    world.settle()
    world.server.resume()
    world.server.stop()
    world.settle()
    assert client.replies == []
    world.server.start()
    assert world.ask(world.client(), "GET", "a") == b"1"


def test_a_hung_server_accepts_and_says_nothing() -> None:
    """What came while it hung is processed when it goes on, also from a client that has gone since."""
    world = World()
    first, gone = world.client(), world.client()
    world.server.hang()
    late = world.client()
    for client in (gone, first, late):
        client.send("INCR", "a")
    world.settle()
    gone.transport.abortConnection()
    world.clock.advance(60)
    assert first.replies == late.replies == []
    assert len(world.server.connections) == 3
    world.server.resume()
    world.settle()
    assert (first.replies, gone.replies, late.replies) == ([2], [], [3])
    assert len(world.server.connections) == 2


def test_a_hung_server_keeps_the_replies_it_had_ready() -> None:
    """A reply made in the turn before the server hung is sent when it goes on."""
    world = World()
    client = world.client()
    end = world.server.connections[0]
    end.dataReceived(b"*1\r\n$4\r\nPING\r\n")
    world.server.hang()
    world.settle()
    assert client.replies == []
    world.server.resume()
    world.settle()
    assert client.replies == [b"PONG"]


@pytest.mark.parametrize(
    ("kind", "left"), [("all", (False, False)), ("subscribers", (True, False)), ("commands", (False, True))]
)
def test_connections_are_dropped_by_kind(kind: str, left: tuple[bool, bool]) -> None:
    """The server drops subscribers, those that give commands, or all."""
    world = World()
    commander, subscriber = world.client(), world.client()
    world.ask(subscriber, "SUBSCRIBE", "channel")
    world.server.drop_connections(kind)  # type: ignore[arg-type]
    world.settle()
    assert (commander.lost is None, subscriber.lost is None) == left


def test_client_kill_ends_connections() -> None:
    """CLIENT KILL by type and by id: the reply still comes where the killer kills itself."""
    world = World()
    killer, victim = world.client(), world.client()
    world.ask(victim, "SUBSCRIBE", "channel")
    assert world.ask(killer, "CLIENT", "KILL", "TYPE", "pubsub") == 1
    assert victim.lost is error.ConnectionDone
    me = world.ask(killer, "CLIENT", "ID")
    assert world.ask(killer, "CLIENT", "KILL", "ID", me, "SKIPME", "no") == 1
    assert killer.lost is error.ConnectionDone
    world.assert_nothing_is_left()


def test_data_and_scripts_are_flushed_apart() -> None:
    """`flush` forgets the data of every database and keeps the scripts; `script_flush` the reverse."""
    world = World()
    client = world.client()
    digest = world.ask(client, "SCRIPT", "LOAD", "return redis.call('GET', 'a')")
    world.ask(client, "SET", "a", 1)
    world.ask(client, "SELECT", 3)
    world.ask(client, "SET", "a", 3)
    world.server.flush()
    assert world.ask(client, "EVALSHA", digest, 0) is None
    world.ask(client, "SELECT", 0)
    assert world.ask(client, "EVALSHA", digest, 0) is None
    world.ask(client, "SET", "a", 2)
    world.server.script_flush()
    assert text(world.ask(client, "EVALSHA", digest, 0)).startswith("NOSCRIPT ")
    assert world.ask(client, "GET", "a") == b"2"


def test_a_snapshot_is_the_data_of_one_moment() -> None:
    """A server takes the data another had earlier, as a replica that is promoted does."""
    world = World()
    client = world.client()
    world.ask(client, "SET", "a", 1, "PX", 5000)
    world.ask(client, "HSET", "h", "field", b"\x00\xff")
    world.ask(client, "XADD", "log", f"{START}000000-1", "field", "value")
    world.ask(client, "ZADD", "due", "1.5", "member")
    snapshot = world.server.snapshot()
    world.ask(client, "SET", "a", 2)
    world.ask(client, "XADD", "log", f"{START}000000-2", "field", "value")

    promoted = MemoryServer(world.clock)
    promoted.restore(snapshot)
    world.network.server = promoted
    client = world.client()
    assert world.ask(client, "GET", "a") == b"1"
    assert world.ask(client, "HGET", "h", "field") == b"\x00\xff"
    assert world.ask(client, "XLEN", "log") == 1
    assert world.ask(client, "ZSCORE", "due", "member") == b"1.5"
    world.ask(client, "XADD", "log", f"{START}000000-2", "other", "value")
    world.clock.advance(6)
    assert world.ask(client, "EXISTS", "a") == 0
    promoted.restore(snapshot)
    assert world.ask(client, "XLEN", "log") == 1


def test_databases_are_apart_and_channels_are_not() -> None:
    """SELECT separates keys; messages reach subscribers in every database."""
    world = World()
    client, subscriber = world.client(), world.client()
    world.ask(subscriber, "SUBSCRIBE", "channel")
    world.ask(client, "SET", "a", 1)
    world.ask(client, "SELECT", 1)
    assert world.ask(client, "GET", "a") is None
    assert world.ask(client, "PUBLISH", "channel", "word") == 1


def test_a_script_is_compiled_once_and_keeps_nothing() -> None:
    """Servers share the compiled scripts, never what a script has seen or may call."""
    one, two = World(), World()
    script = "local was = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], ARGV[1]) return was"
    digest = hashlib.sha1(script.encode()).hexdigest()
    first, second = one.client(), two.client()
    assert one.ask(first, "EVAL", script, 1, "a", "one") is None
    assert text(two.ask(second, "EVALSHA", digest, 1, "a", "two")).startswith("NOSCRIPT ")
    assert two.ask(second, "EVAL", script, 1, "a", "two") is None
    assert one.ask(first, "EVALSHA", digest, 1, "a", "x") == b"one"
    assert one.ask(first, "EVAL", "return #KEYS + #ARGV", 0) == 0


def test_a_fault_of_the_fake_is_not_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where fakeredis itself fails, a script cannot catch it: the connection breaks and the fault is logged."""

    def broken(self: object, key: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(MemoryCommands, "get", broken)
    world = World()
    client = world.client()
    client.send("EVAL", "pcall(redis.call, 'GET', 'a') return 1", 0)
    world.settle()
    assert client.replies == []
    assert client.lost is error.ConnectionDone
