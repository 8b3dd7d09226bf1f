"""Whole daemons in this process and in virtual time, among strangers with valid keys, under everything that may happen.

    python -m tests.fuzz.in_memory --minutes 10 [--seed 7] [--throw]

Real: shell, core, performer, journal, SQLite, blobs, network keeper, discovery, ledger. Not real: the worker does its
jobs in the same process, the network is the one in memory, threads are not used and time is virtual. Honest daemons are
linked with each other; strangers say what `tests.fuzz.announcements` gives, at any moment of fetches, merges, bans,
restarts, deaths of workers and lossy links. With `--throw` exceptions come out of drawn awaits of the daemons, too.

What must hold, whatever the seed: no daemon ends (but in order, where `peerd.machine.boundary` says so, and then it is begun
again), none drops a connection to an honest peer, none counts a failure unless one was thrown, every status can be
shown, and when the strangers have left rounds go on, together.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import msgspec

from p2pfinetune.names import Digest, PeerId
from peerd.config import Config
from peerd.core.events import BanLifted, TextChanged
from peerd.daemon import assembly as daemon_module
from peerd.daemon import journal, text_watch
from peerd.daemon.assembly import Daemon
from peerd.daemon.ports import Ports
from peerd.errors import Unforeseen
from peerd.machine import loop_watch
from peerd.machine import shortages as machine_watch
from peerd.machine.paths import Paths
from peerd.net.transport import Found
from peerd.testing.invariants import broken
from peerd.testing.network import Faults, MemoryNetwork, MemoryTransport, _Gossip
from peerd.testing.store import MemoryBlobs
from peerd.wire.keys import PeerKey
from peerd.worker import supervisor
from peerd.worker.messages import JobFailed
from tests.crash.light import NearLife
from tests.fuzz.announcements import EPOCH, Mouth
from tests.fuzz.awaits import Thrower
from tests.fuzz.virtual import play

HONEST = 3
MAX_STRANGERS = 4
PATIENCE_SECONDS = 900.0  # of virtual time, in which the daemons must get on when they are let alone


class Wires(MemoryNetwork):
    """With the world that looks on."""

    world: World


class Watched(MemoryTransport):
    """Takes time to fetch, and tells the world whom it cuts off."""

    def __init__(self, wires: Wires, me: PeerId, shelf: Any, network: Digest) -> None:
        super().__init__(wires, me, shelf, network)
        self._world = wires.world

    async def fetch(self, digest: Digest, size: int, holders: Any, timeout_seconds: float) -> Any:
        """Later."""
        await asyncio.sleep(self._world.rng.uniform(0.0, 3.0))
        return await super().fetch(digest, size, holders, timeout_seconds)

    async def disconnect(self, peer: PeerId) -> None:
        """By the daemon's own will."""
        self._world.cut(self.me, peer)
        await super().disconnect(peer)

    async def stop(self) -> None:
        """All links go."""
        for peer in list(self.links):
            self._world.cut(self.me, peer)
        await super().stop()


class Device:
    """A home and the daemon that lives in it, life after life."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.paths = world, Paths.of(world.folder / str(number))
        self.daemon: Daemon | None = None
        self.lives, self.is_leaving = 0, False
        self.failures = Counter[str]()
        self.doubts: list[str] = []
        self.ready = asyncio.Event()

    @property
    def me(self) -> PeerId:
        """Its id."""
        assert self.daemon is not None
        return self.daemon._key.peer_id

    async def run(self) -> None:
        """Until the world is over."""
        self.paths.prepare()
        while not self.world.is_over:
            self.lives, self.is_leaving = self.lives + 1, False
            self.ready.clear()
            config = Config(
                data=(str(self.world.folder / "text"),), rounds=0, steps_per_round=2, warmup_rounds=0,
                collect_seconds=5.0, patience=100_000, name=f"honest {self.lives}",
            )  # fmt: skip
            self.daemon = daemon = Daemon(self.paths, config, lambda _: self.ready.set(), self.world.ports())
            daemon._journal._pauses = daemon._worker._pauses = supervisor.Backoff(first=0.5)
            try:
                await daemon.run()
            except* Unforeseen as group:
                if self.world.thrower is None:
                    raise
                self.doubts += [str(error) for error in leaves(group)]
            self.failures += Counter(daemon._failures.now().counts)

    def leave(self) -> None:
        """In order; another life begins."""
        if self.daemon is not None and not self.is_leaving:
            self.is_leaving = True
            self.daemon._ending.begin("the world wants it")

    def meet(self, other: Device) -> None:
        """As discovery does."""
        if self.daemon is not None and other.daemon is not None:
            self.daemon._found(Found(other.me, (f"/memory/{other.me}/p2p/{other.me}",), "test"))


class Stranger:
    """One key, some blobs, and a connection to whoever it likes."""

    def __init__(self, world: World, number: int) -> None:
        rng = world.rng
        self.world, self.key = world, PeerKey(number.to_bytes(32, "big"))
        self.shelf = MemoryBlobs()
        contents = rng.sample([b"8.0", b"-3.5", b"no update", b"1e999", b'"x"', b"x" * 900, b"x" * 5000], 3)
        blobs = [(self.shelf.put(content), len(content)) for content in contents]
        self.node = world.wires.node(self.key.peer_id, self.shelf, world.network)
        self.mouth = Mouth(
            rng, self.key, world.network, blobs=blobs, addresses=(self.node.address,), clock=world.unix_seconds
        )
        for digest, _ in blobs:
            if rng.random() < 0.2:
                self.shelf._blobs[digest] = rng.randbytes(len(self.shelf._blobs[digest]))  # wrong bytes
        if rng.random() < 0.3:
            world.wires.stalled.add(self.key.peer_id)

    async def meet(self, device: Device) -> None:
        """Dial it."""
        await self.node.connect(device.me, (f"/memory/{device.me}",))

    def say(self, *envelopes: bytes) -> None:
        """All in one frame."""
        for envelope in envelopes:
            self.node._published += 1
            self.node._spread(_Gossip((self.key.peer_id, self.node._published), envelope), {self.key.peer_id})


class World:
    """The devices, the strangers, and what happens to them."""

    def __init__(self, folder: Path, seed: int, *, thrower: Thrower | None = None) -> None:
        self.folder, self.rng, self.thrower = folder, Random(seed), thrower
        self.wires = Wires(seed=seed)
        self.wires.world = self
        self.network = Digest((b"default".hex() + "0" * 64)[:64])
        self.devices = [Device(self, number) for number in range(HONEST)]
        self.strangers: list[Stranger] = []
        self.is_over = False
        self.numbers = itertools.count(1000)
        self.drops: list[str] = []
        self.said = 0
        self.done = Counter[str]()
        (folder / "text").mkdir()

    def unix_seconds(self) -> int:
        """What clocks on walls say."""
        return EPOCH + int(asyncio.get_running_loop().time())

    def ports(self) -> Ports:
        """What daemons meet."""
        return Ports(
            transport=lambda key, network, shelf, _: Watched(self.wires, key.peer_id, shelf, network),
            prepare=lambda: None,
            worker=list,
            unix=lambda: float(self.unix_seconds()),
            signals=False,
        )

    def cut(self, one: PeerId, other: PeerId) -> None:
        """A daemon ends a connection: between honest ones only a daemon that leaves does."""
        near = {device.me: device for device in self.devices if device.daemon is not None}
        device = near.get(one)
        if device is None or other not in near or device.is_leaving or device.daemon is None:
            return
        if device.daemon._shell.doubt is None:
            self.drops.append(f"{one} dropped {other}")

    async def live(self, steps: int) -> None:
        """So many things happen, then the strangers leave and the honest ones must get on."""
        async with asyncio.TaskGroup() as tasks:
            for device in self.devices:
                with self.thrower.aimed() if self.thrower else ExitStack():
                    tasks.create_task(device.run(), name="device")
            for device in self.devices:
                await device.ready.wait()
            self.introduce()
            await asyncio.sleep(20.0)
            for _ in range(steps):
                self.arm(is_armed=True)
                await self.happen()
                self.check()
            self.arm(is_armed=False)
            await self.get_on()
            self.is_over = True
            for device in self.devices:
                device.leave()

    def arm(self, *, is_armed: bool) -> None:
        """Whether exceptions come out of awaits."""
        if self.thrower is not None:
            self.thrower.is_armed = is_armed

    def introduce(self) -> None:
        """All honest ones to each other."""
        for one, other in itertools.combinations(self.devices, 2):
            one.meet(other)

    async def happen(self) -> None:
        """One thing, and some time."""
        deeds: dict[Callable[[], Awaitable[None] | None], int] = {
            self.come: 12, self.speak: 40, self.speak_and_be_banned: 12, self.go: 4, self.stall: 3, self.lie: 3,
            self.restart: 2, self.kill_worker: 2, self.lift: 3, self.weather: 3, self.rewrite: 1,
        }  # fmt: skip
        deed = self.rng.choices(list(deeds), list(deeds.values()))[0]
        self.done[deed.__name__] += 1
        if (waiting := deed()) is not None:
            await waiting
        await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.01, 0.3, 2.0, 10.0)))

    async def come(self) -> None:
        """A new stranger, who dials some."""
        stranger = Stranger(self, next(self.numbers))
        await stranger.node.start()
        for device in self.rng.sample(self.devices, self.rng.choice((1, 1, 2))):
            if device.daemon is not None:
                await stranger.meet(device)
        self.strangers.append(stranger)
        if len(self.strangers) > MAX_STRANGERS:
            await self.strangers.pop(0).node.stop()

    def speak(self) -> None:
        """One of them says something."""
        if self.strangers:
            envelopes = [
                stranger.mouth.anything() for stranger in [self.rng.choice(self.strangers)] * self.rng.choice((1, 3, 8))
            ]
            self.said += len(envelopes)
            self.rng.choice(self.strangers).say(*envelopes)  # perhaps another one passes it on

    def speak_and_be_banned(self) -> None:
        """Something that is fetched, or is not, and four offences behind it."""
        if self.strangers:
            stranger = self.rng.choice(self.strangers)
            mouth = stranger.mouth
            kinds = (mouth.honest, mouth.odd, lambda: mouth.odd("blob"), lambda: mouth.odd("blob"))
            first = [self.rng.choice(kinds)() for _ in range(2)]
            self.said += 6
            stranger.say(*first, *stranger.mouth.ban())

    async def go(self) -> None:
        """One leaves in the middle of whatever it does."""
        if self.strangers:
            await self.strangers.pop(self.rng.randrange(len(self.strangers))).node.stop()

    def stall(self) -> None:
        """One serves no more, or again."""
        if self.strangers:
            self.wires.stalled ^= {self.rng.choice(self.strangers).key.peer_id}

    def lie(self) -> None:
        """A blob becomes another, or goes."""
        if self.strangers:
            blobs = self.rng.choice(self.strangers).shelf._blobs
            for digest in list(blobs):
                blobs[digest] = self.rng.choice((b"", b"7.0", b"x" * 1000, blobs[digest]))

    def restart(self) -> None:
        """An honest one."""
        self.rng.choice(self.devices).leave()

    def kill_worker(self) -> None:
        """Of an honest one."""
        if (found := self.rng.choice(self.devices).daemon) is not None:
            found._worker.kill()

    async def lift(self) -> None:
        """A person is lenient."""
        device = self.rng.choice(self.devices)
        if device.daemon is not None:
            for banned in device.daemon.status().banned[:2]:
                device.daemon._shell.tell_soon(BanLifted(at=asyncio.get_running_loop().time(), peer=banned.peer_id))

    def weather(self) -> None:
        """Links get worse or better."""
        bad = Faults(loss=0.2, duplication=0.2, reordering=0.3, latency_seconds=2.0, cut=0.1)
        self.wires.faults = self.rng.choice((Faults(), bad))

    def rewrite(self) -> None:
        """The user writes."""
        if (found := self.rng.choice(self.devices).daemon) is not None:
            found._shell.tell_soon(TextChanged(at=asyncio.get_running_loop().time(), fingerprint="new"))

    def check(self) -> None:
        """What must hold at any moment."""
        assert not self.drops, self.drops
        for device in self.devices:
            if device.daemon is None:
                continue
            if self.thrower is None or not self.thrower.struck:
                assert device.daemon._failures.now().counts == {}, device.daemon._failures.now()
                assert device.failures == {}
                assert device.doubts == []
            msgspec.json.encode(device.daemon.status())
            node = device.daemon._shell.node
            assert not broken(node, [], node)

    async def get_on(self) -> None:
        """Let alone, the honest ones find one another and merge with each other."""
        while self.strangers:
            await self.strangers.pop().node.stop()
        self.wires.faults = Faults()
        self.introduce()
        rounds = [device.daemon._shell.node.round for device in self.devices if device.daemon is not None]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not all(self.got_on(*pair) for pair in zip(self.devices, rounds, strict=True)):
                    await asyncio.sleep(5.0)
                    self.introduce()
        except TimeoutError:
            shown = [device.daemon.status() for device in self.devices if device.daemon is not None]
            raise AssertionError(f"they do not get on: {shown}") from None
        self.check()

    def got_on(self, device: Device, round_: int) -> bool:
        """Three rounds further, linked with all others, some of whom are in its last merge."""
        if device.daemon is None or not device.daemon._journal.records:
            return False
        others = {other.me for other in self.devices if other is not device and other.daemon is not None}
        last = device.daemon._journal.records[-1]
        is_linked = others <= device.daemon._network.connected()
        return device.daemon._shell.node.round >= round_ + 3 and is_linked and bool(others & last.row.keys())


class SlowLife(NearLife):
    """The worker takes its time, so that something can happen meanwhile."""

    rng = Random(0)

    async def call(self, job: Any, on_progress: Any = None) -> Any:
        """Its answer, later; none where it was killed meanwhile."""
        seconds = self.rng.uniform(0.1, 4.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        if self.ended.is_set():
            raise supervisor.WorkerError("the worker process has ended")
        try:
            return await super().call(job, on_progress)
        except FileNotFoundError as error:  # a blob that was forgotten meanwhile; the real worker answers likewise
            return JobFailed(id=0, code="FileNotFoundError", message=str(error))


async def inline(function: Callable[..., Any], *arguments: object) -> Any:
    """Instead of a thread."""
    await asyncio.sleep(0.01)
    return function(*arguments)


async def in_turn(self: journal.Journal, function: Callable[..., Any], *arguments: object) -> Any:
    """Instead of the thread of the disk."""
    await asyncio.sleep(0.01)
    return function(*arguments)


async def unserved(app: Any, door: Any, stop: asyncio.Event, **_: Any) -> None:
    """Instead of the control socket."""
    door.was_open = True
    await stop.wait()


@contextmanager
def without_threads() -> Iterator[None]:
    """Nothing of a daemon waits for anything but the loop's clock."""
    with ExitStack() as changed:
        for target, name, value in (
            (supervisor, "Life", SlowLife), (journal.Journal, "_in_thread", in_turn), (daemon_module, "serve", unserved),
            (daemon_module, "apart", inline), (machine_watch, "apart", inline), (text_watch, "apart", inline),
            (loop_watch, "BEAT_SECONDS", 5.0),
        ):  # fmt: skip
            changed.enter_context(patch.object(target, name, value))
        yield


def leaves(error: BaseException) -> list[BaseException]:
    """What is in a group of errors."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [error]


def played(seed: int, steps: int, *, odds: float = 0.0) -> World:
    """The world after it; AssertionError, or what came out of a daemon, where something does not hold."""
    thrower = Thrower(Random(seed), odds=odds) if odds else None
    SlowLife.rng = Random(seed)

    async def main(folder: Path) -> World:
        if thrower is not None:
            asyncio.get_running_loop().set_task_factory(thrower.factory)
        world = World(folder, seed, thrower=thrower)
        await world.live(steps)
        return world

    with tempfile.TemporaryDirectory(prefix="peerd-") as folder, without_threads():
        return play(main(Path(folder)))


def main() -> int:
    """One seed after the other; the exit code is 1 where something did not hold, and its seed is said."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.in_memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--seeds", type=int, default=10**9, help="so many at most")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--throw", action="store_true", help="exceptions come out of awaits")
    chosen = parser.parse_args()
    logging.getLogger("peerd").setLevel(logging.CRITICAL)
    end, said, struck, doubts = time.monotonic() + 60.0 * chosen.minutes, 0, Counter[str](), 0
    for seed in range(chosen.seed, chosen.seed + chosen.seeds):
        if time.monotonic() > end:
            break
        try:
            world = played(seed, chosen.steps, odds=0.001 if chosen.throw else 0.0)
        except BaseException:
            print(f"seed {seed} with {chosen.steps} steps{' --throw' * chosen.throw}:", file=sys.stderr)
            raise
        said += world.said
        doubts += sum(len(device.doubts) for device in world.devices)
        struck += world.thrower.struck if world.thrower else Counter()
        print(f"seed {seed}: {world.said} announcements, {sum(world.done.values())} deeds", flush=True)
    print(f"{said} announcements; {sum(struck.values())} exceptions at {len(struck)} awaits, {doubts} ends in order")
    for place, count in struck.most_common():
        print(f"  {count:6} {place}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
