"""Peers that a rendezvous node knows: registers with it, and hears of a few others in the same question.

    register --> Sample: tell of each usable record --> pause: 4 s, doubling to 2 minutes --> register ...
                 no answer, or refused -------------->   the same: a dead node is asked no oftener than a live one
                 own addresses have changed --------->   at once, and the pauses begin anew

A registration lasts as long as the node says; it is renewed after about a third of that, so that one may be lost.
Pauses are spread by a quarter, so that peers that started together do not come back together.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from peerd.discovery._base import DiscoveryContext, DiscoveryMethod, Tell
from peerd.net.transport import Failed, Found
from peerd.wire.addresses import Address, usable
from peerd.wire.messages import MAX_ADDRESSES, Register, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap(DiscoveryMethod):
    """Registers with each --bootstrap node and hears of a random few of its peers, again and again.

    want: peers asked for at a time.
    first_seconds: until the second time; the pause doubles from then on.
    longest_seconds: the pause it grows to, with a node that answers and with a dead one.
    """

    want: int = 16
    first_seconds: float = 4.0
    longest_seconds: float = 120.0

    async def run(self, context: DiscoveryContext, tell: Tell) -> None:
        """Keep up with every node."""
        async with asyncio.TaskGroup() as tasks:
            for node in context.bootstrap:
                tasks.create_task(self._keep_up(node, context, tell), name=f"bootstrap {node.transport}")

    async def _keep_up(self, node: Address, context: DiscoveryContext, tell: Tell) -> None:
        pause = self.first_seconds
        while context.register is not None:
            message = Register(network=context.network, addresses=context.addresses()[:MAX_ADDRESSES], want=self.want)
            answer = await context.register(node, message)
            context.asked(node, _trouble(answer))
            if isinstance(answer, Sample):
                context.others(node, () if answer.peers else answer.others)
                _tell_all(answer, tell, self.want)
            has_moved = message.addresses != context.addresses()[:MAX_ADDRESSES]  # while it was asked
            rested = not has_moved and await context.sleep(self._jittered(pause, answer, context))
            pause = self.first_seconds if has_moved or rested else min(2 * pause, self.longest_seconds)

    def _jittered(self, pause: float, answer: Sample | Failed, context: DiscoveryContext) -> float:
        """Early enough for the registration to last, and not in step with all others."""
        if isinstance(answer, Sample) and answer.expires_seconds:
            pause = min(pause, max(self.first_seconds, answer.expires_seconds / 3))
        return pause * context.random.uniform(0.75, 1.25)


def _tell_all(sample: Sample, tell: Tell, most: int) -> None:
    for record in sample.peers[:most]:
        if addresses := usable(record.addresses, record.peer):
            tell(Found(record.peer, tuple(map(str, addresses)), "bootstrap"))


def _trouble(answer: Sample | Failed) -> Failed | None:
    match answer:
        case Failed():
            return answer
        case Sample(status="ok"):
            return None
        case Sample(status=status):
            return Failed("busy", f"refuses us ({status})")
