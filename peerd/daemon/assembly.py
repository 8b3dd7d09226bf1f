"""Puts one daemon together: lock, store, identity, worker, network, shell and control interface, and ends it again.

The one place that knows all parts. It never loads torch: the worker does, in a process of its own. Every task stands
behind the boundary of `peerd.machine.boundary`, which has the list of them with what becomes of each when it fails.

    lock taken --> home opened --> tasks begun --> worker opened --> joined --> ready --> asked to stop --> closed
      |              |               |               |                |                     |
      |              |               |               |                |                     worker 3 s, network 5 s,
      |              |               |               |                |                     the book; 15 s in all, or
      |              |               |               |                |                     `machine.ending` by force
      |              |               |               |                network listens, discovery and text watch begin
      |              |               |               the network's name is known only now: base model and adapter
      |              |               |               are a part of it
      |              |               the control interface answers from here on: `peerd status` says "starting"
      |              damaged files set aside; another peer's training is refused
      AlreadyRunning: somebody else holds it

The order is one of rights. Nothing in a home is touched without its lock, nothing is said before it is known which
network this is, and whoever started the daemon hears "ready" only when it listens and has loaded its model. What a
person has to mend (text, model, port) ends the daemon up to that moment, with an error; the same trouble later is
survived and said.

Parts know one another by small callables that are given here, not by this class. Where two parts need each other (the
shell performs effects, performers need the shell's node), the later one is given to the earlier as a function.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from p2pfinetune.data.corpus import glance
from peerd import __version__
from peerd.config import Config
from peerd.control.api import application
from peerd.control.door import Door
from peerd.control.serve import serve
from peerd.core.events import AnyEvent, PeerFound, WorkerDied
from peerd.daemon.introductions import Introductions
from peerd.daemon.ledger import Ledger, PublicShelf, has_published, is_public
from peerd.daemon.link import SupervisedTransport
from peerd.daemon.middles import Middles
from peerd.daemon.perform import Performer
from peerd.daemon.ports import Ports
from peerd.daemon.recorder import FlightRecorder, records_at_signal
from peerd.daemon.resume import begin_node, measured, open_job, open_state, own_announcement, worker_started
from peerd.daemon.shell import Finished, Shell
from peerd.daemon.snapshot import Parts, snapshot
from peerd.daemon.text_watch import TextWatch
from peerd.daemon.tidying import clear, clear_folder
from peerd.daemon.view import LiveView
from peerd.discovery import METHODS, DiscoveryContext, discover
from peerd.errors import PeerdError, StoreError, UsageError
from peerd.machine import faults, known_types, logs
from peerd.machine.apart import apart
from peerd.machine.boundary import Failures, Guarded, Tasks, once, ours
from peerd.machine.ending import Ending
from peerd.machine.home_watch import HomeWatch
from peerd.machine.lock import HeldLock, hold
from peerd.machine.loop_watch import LoopWatch
from peerd.machine.orphans import bury_strangers
from peerd.machine.paths import Paths
from peerd.machine.shortages import MachineWatch
from peerd.net.transport import Found, Transport
from peerd.status import Status
from peerd.store.port import Store
from peerd.wire.addresses import addresses_of
from peerd.wire.keys import PeerKey, load_group_key
from peerd.wire.traits import Traits
from peerd.worker.messages import Open, Opened
from peerd.worker.process import child_environment
from peerd.worker.supervisor import Worker

SWITCH_SECONDS: Final = 0.0002  # Python's 5 ms let a busy loop starve the network thread forty-fold
WORKER_GRACE_SECONDS: Final = 3.0  # to leave between two steps; a longer step is not worth waiting for

_log = logging.getLogger("peerd.daemon")


async def run(
    paths: Paths, config: Config, *, ready: Callable[[Status], None] | None = None, ports: Ports | None = None
) -> int:
    """Be the daemon until it is stopped; the exit code. `ready` is called once it listens and has loaded its model.

    Raises PeerdError: AlreadyRunning, UsageError (text, model or options cannot be used), StoreError, TransportError.
    """
    known_types.work_out()
    paths.prepare()
    sys.setswitchinterval(SWITCH_SECONDS)
    with hold(paths.lock, version=__version__, socket=paths.socket) as held:
        handlers = logs.set_up(paths.log)
        _log.info("starting", extra={"version": __version__, "pid": os.getpid(), "home": str(paths.home)})
        if held.before:
            _log.warning("the run before this one did not end in order: %s", held.before)
        if armed := faults.warning():
            _log.warning("%s", armed)
        try:
            await Daemon(paths, config, ready or (lambda _: None), ports or Ports(), held).run()
        except* PeerdError as group:
            raise first_of(group) from None
        finally:
            logs.take_down(handlers)
    return 0


def first_of(group: BaseExceptionGroup[PeerdError]) -> PeerdError:
    """What to tell the user: tasks that failed together failed for one reason."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error


class Daemon:
    """All parts of one daemon, and how they are wired."""

    def __init__(
        self,
        paths: Paths,
        config: Config,
        ready: Callable[[Status], None],
        ports: Ports,
        held: HeldLock | None = None,
    ) -> None:
        """`held`: the lock of the home; without it nobody looks whether the home stays, nor how the last run ended."""
        self._paths, self._config, self._ready, self._ports = paths, config, ready, ports
        self._clock = asyncio.get_running_loop().time
        self._began_at = self._clock()
        self._failures, self._home = Failures(self._clock), HomeWatch(held)
        if config.group_key:
            load_group_key(Path(config.group_key))  # a mistake in it is told before anything starts
        store = self._open_home()
        self._remembered = tuple(store.peers())
        self._worker = Worker(
            self._open_job, command=ports.worker(), environment=child_environment(os.environ, config.threads)
        )
        self._network = SupervisedTransport(
            self._new_transport,
            self._tell,
            clock=self._clock,
            unix=ports.unix,
            failures=self._failures,
            announce=tuple(str(one.of(self._key.peer_id)) for one in addresses_of(config.announce)),
        )
        given = {"--bootstrap": addresses_of(config.bootstrap), "--peer": addresses_of(config.peer)}
        self._introductions = Introductions(given)
        self._middles = Middles(
            journal=self._journal, worker=self._worker, network=self._network, clock=self._clock, tell=self._tell
        )
        self._performer = Performer(
            key=self._key,
            config=config,
            journal=self._journal,
            worker=self._worker,
            network=self._network,
            clock=self._clock,
            unix=ports.unix,
            middles=self._middles,
            dialled=self._introductions.dialled,
            scratch=paths.scratch,
        )
        self._recall()
        self._shell = self._begun(store)
        self._shelf = PublicShelf(self._blobs, lambda digest: is_public(digest, self._shell.node, self._journal))
        self._ledger = Ledger(self._journal, self._network, self._shell, clock=self._clock, unix=ports.unix)
        self._ending = Ending(self._shell.ask_to_stop, self._worker.kill, self._leave_nothing)
        self._shell.end = self._ending.begin
        self._text = TextWatch(
            [Path(path) for path in config.data], self._worker, self._tell, clock=self._clock, look=self._glance
        )
        self._loop_watch, self._machine = LoopWatch(), MachineWatch((paths.home, paths.cache))
        self._door = Door(paths.socket, spare=paths.spare_socket(), may=self._home.is_ours, moved=self._home.listens_at)
        self._joined = self._told_ready = False
        self._listening, self._api_stop = asyncio.Event(), asyncio.Event()

    def _begun(self, store: Store) -> Shell:
        """The core where the runs before left it, and the loop around it."""
        begun = begin_node(
            self._config,
            self._key.peer_id,
            self._began_at,
            self._remembered,
            store.seen(),
            self._journal,
            store.bans(),
            self._ports.unix(),
            secret=self._key.sign(b"peerd lots").hex(),  # the same in every run, and nobody else can know it
        )
        self._recorder = FlightRecorder(
            begun[0], __version__, self._paths.records, self._clock, self._failures, self._home.require
        )
        return Shell(
            begun,
            self._performer.perform,
            self._clock,
            self._network.connected,
            failed=self._performer.failed,
            failures=self._failures,
            witness=self._recorder,
        )

    def _open_home(self) -> Store:
        """The identity and everything that it learnt."""
        paths, was_here = self._paths, has_published(self._paths)
        if paths.identity.exists() and not was_here:
            _log.warning(
                "the identity is an old one, but nothing that it learnt lies in %s: training begins at round 1",
                paths.home,
            )
        self._key = PeerKey.load_or_create(paths.identity, used=paths.database.exists())
        store, self._blobs, self._journal = open_state(
            paths, self._ports.unix(), me=self._key.peer_id, guard=self._home.require, was_here=was_here
        )
        return store

    async def run(self) -> None:
        """Until it is asked to stop; then everything is closed, within fifteen seconds."""
        if self._ports.signals:
            self._ending.listen()
            records_at_signal(self._recorder)
            bury_strangers(self._worker.pids)
        try:
            with faults.around("start.tidy"):
                self._tidy()
            async with asyncio.TaskGroup() as group:
                self._tasks = Tasks(group, self._failures)
                self._begin()
                reason = await self._shell.run()
                _log.info("stopping", extra={"reason": reason})
                await self._close()
                raise self._shell.doubt or Finished  # nothing else ends a task group's other tasks
        except* Finished:
            _log.info("stopped")
        finally:
            self._worker.kill()
            self._journal.close()
            with contextlib.suppress(OSError):
                if self._home.is_ours():
                    clear(self._paths)  # what the worker wrote last and could not tell of any more
            self._ending.ignore()
        if self._home.gone is not None:
            raise self._home.gone

    def _begin(self) -> None:
        """Every task that is there from the start."""
        self._tasks.lasting("loop watch", self._loop_watch.run)
        self._tasks.lasting("machine watch", self._machine.run)
        self._tasks.lasting("home watch", lambda: self._home.run(self._ending.begin))
        self._tasks.lasting("flight recorder", self._recorder.run)
        self._tasks.lasting("control interface", self._serve, fatal=lambda _: not self._door.was_open)
        self._tasks.lasting("book of what was sent", self._ledger.run)
        self._tasks.once("import of the network", lambda: apart(self._ports.prepare))
        self._tasks.lasting(
            "worker", lambda: self._worker.run(self._opened, self._died), fatal=ours, before_again=self._worker_lost
        )

    async def _worker_lost(self, reason: str) -> None:
        """The task that keeps the worker alive failed, so nobody told of its death."""
        self._worker.kill()
        await self._died(reason)

    def status(self) -> Status:
        """The snapshot of this moment."""
        parts = Parts(
            at=self._clock(),
            began_at=self._began_at,
            config=self._config,
            worker=self._worker.now(),
            loop=self._loop_watch.now(),
            figures=self._performer.latest.figures,
            traffic=self._network.traffic(),
            addresses=self._network.addresses,
            troubles=self._troubles(),
            notices=self._journal.notices,
            dropped=self._shell.dropped,
            lonely=self._introductions.lonely(),
            mistaken=self._introductions.mistaken(self._network.connected()),
            registered=self._introductions.registered(),
            met=self._network.met(),
            differs=self._introductions.differs(),
            others=self._introductions.others(),
            spending=self._journal.spending,
            sent_bytes=self._journal.sent_bytes,
            sent_peers=self._journal.sent_peers,
            turned_away=self._network.turned_away(),
            records=self._journal.records,
            failures=self._failures.now(),
            text=self._text.now,
            before=self._home.before,
        )
        return snapshot(self._shell.node, parts)

    def _troubles(self) -> list[str]:
        found = []
        if self._network.trouble:
            trouble = self._network.trouble
            found.append(f"The network is down ({trouble}) and is being started again. The log says more: peerd paths")
        if self._journal.trouble:
            found.append(f"The disk cannot be written: {self._journal.trouble}")
        found += self._machine.troubles
        if self._worker.trouble:
            found.append(self._worker.trouble)
        if self._text.trouble:
            found.append(self._text.trouble)
        return found

    def _tidy(self) -> None:
        """What a killed run left half done. A disk that refuses keeps it for the next start."""
        try:
            clear(self._paths)
            own = own_announcement(self._journal.envelope)
            self._journal.sweep(own.blobs if own is not None else ())
        except (OSError, StoreError) as error:
            _log.warning("what the run before left cannot be tidied: %s", error)

    def _leave_nothing(self) -> None:
        """When there is no time for an orderly end."""
        with contextlib.suppress(OSError):
            self._door.close()
            if self._home.is_ours():
                clear(self._paths)

    async def _serve(self) -> None:
        view = LiveView(
            paths=self._paths,
            shell=self._shell,
            journal=self._journal,
            worker=self._worker,
            status=self.status,
            stop=self._ending.begin,
            clock=self._clock,
            recorder=self._recorder,
        )
        await serve(application(view), self._door, self._api_stop)

    async def _close(self) -> None:
        self._api_stop.set()
        await self._recorder.settled()
        async with asyncio.TaskGroup() as group:
            ends = Tasks(group, self._failures)
            ends.once("stop of the worker", lambda: self._worker.stop(WORKER_GRACE_SECONDS))
            ends.once("stop of the network", self._network.stop)
        await once("stop of the book", self._ledger.enter, self._failures)

    async def _open_job(self) -> Open:
        """Of the first worker, or of the next: whatever its predecessor wrote and could not tell of is of no use."""
        with contextlib.suppress(OSError):  # the next one tries again
            if self._home.is_ours():
                clear_folder(self._paths.scratch, self._journal.incoming)
        job = await open_job(self._config, self._paths, self._journal, self._key.peer_id)
        self._recall()
        return job

    def _recall(self) -> None:
        """What is known of the round in which training goes on."""
        latest, last = self._performer.latest, self._journal.records[-1] if self._journal.records else None
        latest.figures, latest.steps = measured(last, self._journal.checkpoint)

    async def _opened(self, opened: Opened) -> None:
        """The worker is ready: for the first time, or again. What a failure left undone is done the next time."""
        _log.info("training in %s (%s)", opened.precision, opened.precision_why or "as asked")
        _log.info("twin: %s (%s)", opened.twin, opened.twin_why or "as asked")
        latest, self._text.now = self._performer.latest, opened.text
        latest.figures = msgspec.structs.replace(latest.figures, guard_base=opened.base_guard)
        if self._performer.network_digest not in {None, opened.network}:
            raise UsageError("the base model on disk has changed while the daemon ran", "start it again: peerd start")
        if not self._joined:
            await self._join(opened)
        await self._performer.newcomer.has(opened.gates)
        with faults.around("handover.open"):
            await self._tell(worker_started(opened, self._journal, self._shell.node.settings, self._clock()))
        if not self._told_ready:
            self._told_ready = True
            with Guarded("word that it is ready", self._failures):
                self._ready(self.status())

    async def _join(self, opened: Opened) -> None:
        """The network's name is known now: listen, and look for peers."""
        for sentence in opened.report:
            _log.info("text: %s", sentence)
        for sentence in opened.notices:
            _log.warning("%s", sentence)
            if sentence not in self._journal.notices:  # a worker that was replaced says it again
                self._journal.notices.append(sentence)
        with faults.around("start.network"):
            if self._performer.network_digest is None:
                known = {"group": self._config.group, "other_sharings": opened.other_sharings, **opened.traits}
                self._performer.newcomer.join(opened.network, opened.gate_bytes)
                self._network.traits = msgspec.convert(known, Traits)
                self._middles.listen(opened.network)
                self._tasks.lasting(
                    "network",
                    lambda: self._network.run(self._listening.set),
                    fatal=lambda _: not self._listening.is_set(),
                )
                self._performer.network_digest = opened.network
            await self._listening.wait()
        _log.info("listening", extra={"addresses": ", ".join(self._network.addresses), "network": opened.network})
        around = self._surroundings(opened)
        for name in METHODS.names():
            self._tasks.lasting(f"discovery {name}", partial(discover, METHODS.make(name), around, self._found))
        self._tasks.lasting("text watch", self._text.run)
        self._joined = True

    def _glance(self, paths: Sequence[Path]) -> str:
        return glance(paths, int(self._ports.unix() * 1e9))

    async def _died(self, reason: str) -> None:
        await self._tell(WorkerDied(at=self._clock(), reason=reason))

    async def _tell(self, event: AnyEvent) -> None:
        await self._shell.tell(event)

    def _new_transport(self, listening: tuple[str, ...]) -> Transport:
        assert self._performer.network_digest is not None
        config = msgspec.structs.replace(self._config, listen=listening or self._config.listen)
        return self._ports.transport(self._key, self._performer.network_digest, self._shelf, config)

    def _surroundings(self, opened: Opened) -> DiscoveryContext:
        return DiscoveryContext(
            me=self._key.peer_id,
            network=opened.network,
            addresses=lambda: self._network.addresses,
            peers=addresses_of(self._config.peer),
            bootstrap=addresses_of(self._config.bootstrap),
            remembered=self._remembered,
            register=self._network.register,
            asked=self._introductions.asked,
            others=self._introductions.knows_others,
            random=random.Random(),
            sleep=self._network.rest,
        )

    def _found(self, found: Found) -> None:
        """Told again and again by the methods, so one that finds the inbox full may be lost."""
        event = PeerFound(at=self._clock(), peer=found.peer, addresses=found.addresses, how=found.how)
        self._shell.tell_soon(event)
