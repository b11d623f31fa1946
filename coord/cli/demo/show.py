"""``coord demo``: three node processes on an embedded server, shown as they go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from coord.cli._command import Command
from coord.cli._exits import DONE, FAILED
from coord.cli._job import End
from coord.cli._running import run_work
from coord.cli._signals import Interrupted

if TYPE_CHECKING:
    from coord.cli.demo.cast import Node
    from coord.cli.demo.look import Look
    from coord.cli.demo.stage import Stage
    from coord.embedded import EmbeddedServer

__all__ = ["command"]

_NODES = ("node1", "node2", "node3")
# Seconds for a node to end by itself.
_GOODBYE = 2.0


@click.command("demo", cls=Command, example="coord demo --fast")
@click.option("--fast", is_flag=True, help="Without the pauses for reading.")
@click.option("--web", is_flag=True, help="With a page to look at, which stays until Ctrl-C.")
def command(fast: bool, web: bool) -> int:
    """Show what coord does, in a few seconds.

    Starts three processes and a real server, and kills the server while they wait: nothing is lost.
    Then one of the processes is killed: what it held ends by itself.
    Everything runs on this machine, in a temporary folder that is removed afterwards. Every step is
    checked: exits with 1 if one did not happen, 69 if no server can be started.
    With --web, it ends well at Ctrl-C.
    """

    async def work(reactor: Any, _end: End) -> int:
        from coord.cli._output import Output
        from coord.cli.demo.cast import DemoFailed
        from coord.cli.demo.stage import Stage

        output = Output(reactor)
        stage = Stage(reactor, output, fast=fast)
        try:
            return await _show(reactor, stage, web=web)
        except DemoFailed as error:
            await stage.end(f"This should not have happened. {error}", well=False)
            return FAILED
        finally:
            output.close()

    return run_work(work, orderly=web)


async def _show(reactor: Any, stage: Stage, *, web: bool) -> int:
    from twisted.internet.defer import CancelledError

    from coord.cli.demo.cast import Node
    from coord.cli.demo.story import Story
    from coord.embedded import EmbeddedServer

    # Sync each change: an event acknowledged just before a kill survives it too.
    server = EmbeddedServer(reactor=reactor, settings={"appendfsync": "always"})
    nodes: list[Node] = []
    looks: list[Look] = []
    began = reactor.seconds()
    try:
        await stage.scene("Three processes and a server start on this machine.")
        await server.start()
        if web:
            looks.append(await _look(reactor, stage, server.url))
        nodes += [Node(reactor, name, server.url) for name in _NODES]
        story = Story(stage, server, nodes)
        waits = await story.run()
        took = f"({reactor.seconds() - began:.1f} s)"
        words = f"Checked: {waits} waits, each answered once and with the right value. Nothing was lost. {took}"
        await stage.end(words, well=True)
        if web:
            # Ctrl-C is how it is meant to end now, also while a line is being written.
            with suppress(CancelledError, Interrupted):
                await story.stay()
    finally:
        for look in looks:
            await look.close()
        await _clear(reactor, server, nodes)
    return DONE


async def _look(reactor: Any, stage: Stage, url: str) -> Look:
    from coord.cli.demo.look import Look

    look = Look(reactor, url)
    await stage.tell("page", f"open {await look.open()} in a browser, and watch what follows there, too")
    return look


async def _clear(reactor: Any, server: EmbeddedServer, nodes: Sequence[Node]) -> None:
    """End every process, whatever happened."""
    from twisted.internet.defer import DeferredList

    for node in nodes:
        node.dismiss()
    try:
        await DeferredList([node.gone() for node in nodes], consumeErrors=True).addTimeout(_GOODBYE, reactor)
    finally:
        for node in nodes:
            node.kill()
        await server.stop()
