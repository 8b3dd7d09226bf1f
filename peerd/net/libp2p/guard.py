"""The one guard behind which every task stands that a stranger's bytes can reach.

py-libp2p runs what a peer said in nurseries that all peers share, and has no common base for what a peer can make it
raise: one exception nobody foresaw ends the node with every connection. So each such task is named in `TASKS` and run
by a `Guard`: whatever it raises is counted under the task's reason, and the connection of the peer that it was about is
closed. `trio.Cancelled`, `KeyboardInterrupt` and the like pass, out of exception groups too.

A new task belongs into this list, behind the guard, and into the test that makes each of them fail.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import trio
from libp2p.exceptions import BaseLibp2pError

from peerd.errors import PeerdError

TASKS: Final[Mapping[str, str]] = {
    "inbound": "connections-failed",  # from the first byte of an accepted connection to the end of its upgrade
    "muxer": "muxers-failed",  # the reader, the pings and the sweeper of one connection's yamux
    "connection": "connections-broken",  # takes new streams of one connection, and tidies up after it
    "swarm": "swarm-tasks-failed",  # whatever else py-libp2p's swarm starts by itself
    "stream": "streams-failed",  # protocol negotiation and handler of one stream: blobs, gossip, ping, registrations
    "greeting": "greetings-failed",  # ours on a new connection, either way
    "gossip": "gossip-tasks-failed",  # a message, a subscription, a stream to one peer, what waits to be sent to it
    "gossip-goodbye": "gossip-goodbyes-failed",  # what GossipSub forgets of a peer that has gone
    "heartbeat": "heartbeats-failed",  # of GossipSub, over what all peers said
    "gossip-check": "gossip-checks-failed",  # whether each peer is spoken to
    "echo": "echoes-failed",  # what a neighbour hands back of my own words
    "gossip-drain": "gossip-drains-failed",  # messages that were taken already
    "memory": "memories-failed",  # the peer store forgets what has expired
    "addresses": "address-looks-failed",  # closes what was connected from an address that is gone
    "mdns": "mdns-failed",  # announcing; a host of the local network may claim our name
    "rumour": "rumours-failed",  # an answer on the local network, in zeroconf's thread
    "show-out": "goodbyes-failed",  # the bootstrap node closes what stays too long
}
"""The tasks, and the reason under which `peerd status` counts what each turned away."""

NETWORK_ERRORS = (BaseLibp2pError, OSError, EOFError, trio.TooSlowError, trio.BrokenResourceError)
"""What a peer, or the way to it, makes the library raise."""
_FORESEEN = (*NETWORK_ERRORS, trio.ClosedResourceError, trio.EndOfChannel, PeerdError)
CLOSE_SECONDS = 2.0  # for saying goodbye to a peer whose task failed
AGAIN_SECONDS = 1.0  # before a task that runs as long as the node is started again

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Held:
    """What was held back."""

    failure: Exception | None = None


def entered(_task: str) -> None:
    """Called at the start of each task, inside the guard; tests raise here."""


@contextmanager
def contained() -> Iterator[Held]:
    """Whatever the body raises because of a peer ends here, as a value; what ends tasks and programs passes."""
    held = Held()
    try:
        yield held
    except Exception as error:  # the library's border, and it has no common base for what a stranger can provoke
        held.failure = error
    except BaseExceptionGroup as group:
        theirs, rest = group.split(lambda error: isinstance(error, Exception))
        held.failure = theirs if isinstance(theirs, Exception) else None
        if rest is not None:
            raise rest from None


async def attempt(function: Callable[..., Awaitable[Any]], *arguments: Any) -> Exception | None:
    """Run what a peer may make fail; the failure, whatever it is, is a value and ends nothing else."""
    with contained() as held:
        await function(*arguments)
    if held.failure is not None:
        log.debug("%s failed: %r", getattr(function, "__name__", function), held.failure)
    return held.failure


class Guard:
    """The guard of one host."""

    def __init__(self, count: Callable[[str], None]) -> None:
        self.count = count
        self.close: Callable[[Any], Awaitable[None]] | None = None
        """How a host closes the connections of a peer; set with the host."""

    async def run(
        self, task: str, peer: Any, function: Callable[..., Awaitable[Any]], *arguments: Any
    ) -> Exception | None:
        """One task about one peer (None: about nobody in particular).

        A failure that nobody foresaw costs that peer its connection; a line that broke has its own ways.
        """
        with contained() as held:
            entered(task)
            await function(*arguments)
        if held.failure is not None:
            self.turned_away(task, held.failure)
            if peer is not None and not isinstance(held.failure, _FORESEEN):
                await self.show_out(peer)
        return held.failure

    async def show_out(self, peer: Any) -> None:
        if self.close is not None:
            with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_SECONDS):
                await attempt(self.close, peer)

    async def keep(self, task: str, function: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """A task that runs as long as the node: started again if it fails, over if it ends by itself."""
        while await self.run(task, None, function, *arguments) is not None:  # noqa: ASYNC110  # it is no polling
            await trio.sleep(AGAIN_SECONDS)

    def call(self, task: str, function: Callable[..., Any], *arguments: Any) -> Exception | None:
        """One that does not wait, in whatever thread."""
        with contained() as held:
            entered(task)
            function(*arguments)
        if held.failure is not None:
            self.turned_away(task, held.failure)
        return held.failure

    def turned_away(self, task: str, failure: Exception) -> None:
        """Count it. No line of its own above debug: a stranger could fill the disk."""
        self.count(TASKS[task])
        log.debug("%s: turned away by %r", task, failure, exc_info=failure)
