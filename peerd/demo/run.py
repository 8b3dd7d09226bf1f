"""The demo from beginning to end. What happened is measured; nothing printed here is a constant."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console

from p2pfinetune.names import PeerId, Served
from p2pfinetune.scoring.difference import mean_difference, worst_tenth
from p2pfinetune.scoring.perplexity import perplexity
from p2pfinetune.trust import SCHEMES
from peerd.config_file import write_config
from peerd.control.client import AsyncClient
from peerd.control.merges import took_from_others
from peerd.demo import report
from peerd.demo.deal import DealtText, deal_installed, deal_own
from peerd.demo.measure import MEASURED, Measured, measure_all
from peerd.demo.plan import DemoOptions, Member, config_of
from peerd.demo.processes import DemoProcess, bootstrap_address, end, spawn, stopping
from peerd.demo.result import Change, DemoPeer, DemoPerplexity, DemoResult, same_kind_share
from peerd.demo.watch import View, watch
from peerd.machine.orphans import bury_strangers
from peerd.machine.paths import Paths
from peerd.status import RoundRecord, TrafficNow
from peerd.wire.keys import PeerKey

ADAPTERS = "adapters"  # a folder of the report, until they are measured
SECONDS_PER_ROUND = 240.0  # give up long after a slow machine would have finished


def run(options: DemoOptions, console: Console) -> DemoResult:
    """Run the demo; returns the measurements. Raises PeerdError; KeyboardInterrupt stops every process first."""
    SCHEMES.find(options.trust)
    return asyncio.run(demo(options, console))


async def demo(options: DemoOptions, console: Console) -> DemoResult:
    """Deal the text, start everything, watch, measure, stop, report."""
    begun = time.monotonic()
    folder = (options.report or Path("reports") / f"demo-{datetime.now():%Y%m%d-%H%M%S}").resolve()  # noqa: DTZ005  # a name for a person in this time zone
    folder.mkdir(parents=True, exist_ok=True)
    members = prepare(options, folder, console)
    children: list[DemoProcess] = []
    keep = [False]
    bury_strangers(lambda: [child.process.pid for child in children])
    async with stopping(children, keep=keep):
        views = await start(options, members, folder, children, console)
        await watch(views, options.rounds, console, SECONDS_PER_ROUND * options.rounds)
        ends = [await end_of(view, folder / ADAPTERS) for view in views]
        if not options.keep:
            await end(children)  # they rest, and measuring wants the processor
        result = result_of(options, folder, ends, await measured(members, folder, console), begun)
        keep[0] = options.keep
    report.write(result, {view.member.name: view.rounds for view in views}, folder)
    report.show(result, console)
    if options.keep:
        say_what_goes_on(members, children, console)
    else:
        for scratch in ("homes", "text", ADAPTERS):
            shutil.rmtree(folder / scratch, ignore_errors=True)
    return result


async def measured(members: list[Member], folder: Path, console: Console) -> dict[str, Measured]:
    """Every model on text that no peer has."""
    console.print("measuring every model on text that no peer has", soft_wrap=True)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded; see peerd.worker.process
    tests = {member.name: member.test for member in members}
    return await asyncio.to_thread(measure_all, tests, {name: folder / ADAPTERS / name for name in tests})


def result_of(
    options: DemoOptions, folder: Path, ends: list[End], found: dict[str, Measured], begun: float
) -> DemoResult:
    peers = [peer_of(one, found[one.member.name]) for one in ends]
    return DemoResult(
        peers=peers,
        seconds=round(time.monotonic() - begun, 1),
        report=str(folder),
        seed=options.seed,
        trust_scheme=options.trust,
        same_kind_share=same_kind_share(peers),
        against_alone=Change.of(mean_difference([found[peer.name].against_alone for peer in peers])),
        worst_tenth=worst_tenth([peer.against_alone.mean for peer in peers]),
    )


def say_what_goes_on(members: list[Member], children: list[DemoProcess], console: Console) -> None:
    """How to look at what was kept running, and how to end all of it."""
    homes = members[0].home.parent
    bootstrap = " ".join(str(child.process.pid) for child in children if child.name == "bootstrap")
    for line in (
        "the daemons go on running; look at one with:",
        f"  peerd status --home {members[0].home}",
        "end them all with:",
        f"  for home in {homes}/*; do peerd stop --home $home; done; kill {bootstrap}",
    ):
        console.print(line, soft_wrap=True, highlight=False)


def prepare(options: DemoOptions, folder: Path, console: Console) -> list[Member]:
    members = []
    for share in deal(options, folder / "text", console):
        home = folder / "homes" / share.name
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = PeerKey.load_or_create(Paths.of(home).identity)
        members.append(
            Member(
                name=share.name,
                domain=share.domain,
                text=share.folder,
                home=home,
                peer_id=key.peer_id,
                test=share.test,
            )
        )
    return members


def deal(options: DemoOptions, into: Path, console: Console) -> list[DealtText]:
    """What each peer reads, and what it is measured on."""
    into.mkdir(mode=0o700, exist_ok=True)  # it may be a copy of the user's own
    if options.data is not None:
        dealt, copies = deal_own(options.data, into, options.seed)
        console.print(f"holding some text of each folder out to measure on; near copies left out: {copies}")
        return dealt
    console.print(f"dealing text from this installation to {options.peers} peers (prose, Python, C++)")
    return deal_installed(options.peers, into, options.seed)


async def start(
    options: DemoOptions, members: list[Member], folder: Path, children: list[DemoProcess], console: Console
) -> list[View]:
    """The bootstrap node first, since the daemons need its address; then all daemons at once."""
    logs = folder / "logs"
    console.print(f"starting one bootstrap node and {len(members)} daemons")
    arguments = ["start", "--listen", "/ip4/127.0.0.1/tcp/0", "--home", str(folder / "homes" / "bootstrap"), "--json"]
    node = await spawn("bootstrap", ["bootstrap", *arguments], logs / "bootstrap.log", keep=options.keep)
    children.append(node)
    address = await bootstrap_address(node)
    group = f"demo-{secrets.token_hex(4)}"
    views = []
    for member in members:
        write_config(Paths.of(member.home).config, config_of(member, members, options, address, group))
        child = await spawn(
            member.name, ["peerd", "start", "--home", str(member.home)], logs / f"{member.name}.log", keep=options.keep
        )
        children.append(child)
        views.append(View(member=member, child=child))
    return views


@dataclass(frozen=True, slots=True)
class End:
    """What one daemon says of itself at the end."""

    member: Member
    rounds: list[RoundRecord]
    taken: dict[PeerId, float]
    """The row of the last merge that is in its personal model; empty if there is none."""
    served: Served
    traffic: TrafficNow
    refused: dict[str, int]


async def end_of(view: View, adapters: Path) -> End:
    """Asked of it, with its models' adapters exported."""
    async with AsyncClient(home=view.member.home) as client:
        for which in MEASURED:
            await client.export(adapters / view.member.name / which, which)
        status, rounds = await client.status(), await client.rounds()
    return End(view.member, rounds, status.merges.row, status.served, status.traffic, status.refused)


def peer_of(ended: End, found: Measured) -> DemoPeer:
    """One peer's part of the document."""
    return DemoPeer(
        name=ended.member.name,
        peer_id=ended.member.peer_id,
        domain=ended.member.domain,
        test_tokens=found.tokens,
        test_texts=found.against_alone.texts,
        perplexity=DemoPerplexity(
            base=perplexity(found.base), local=perplexity(found.alone), served=perplexity(found.served)
        ),
        served=ended.served,
        against_alone=Change.of(found.against_alone),
        trust=ended.taken or {ended.member.peer_id: 1.0},
        rounds=len(ended.rounds),
        accepted=sum(took_from_others(record, ended.member.peer_id) for record in ended.rounds),
        bytes_in=ended.traffic.bytes_in,
        bytes_out=ended.traffic.bytes_out,
        refused=ended.refused,
    )
