"""The demo from beginning to end. What happened is measured; nothing printed here is a constant."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from datetime import datetime
from pathlib import Path

from rich.console import Console

from p2pfinetune.trust import SCHEMES
from peerd.client import AsyncClient
from peerd.demo import report
from peerd.demo.deal import deal_installed, own_folders
from peerd.demo.plan import DemoOptions, Member, config_of, names_of
from peerd.demo.processes import Child, bootstrap_address, spawn, stopping
from peerd.demo.result import DemoPeer, DemoPerplexity, DemoResult, gain_over_local, same_kind_share
from peerd.demo.watch import View, watch
from peerd.orphans import bury_strangers
from peerd.paths import Paths
from peerd.perplexity import perplexity
from peerd.settings_file import write_config
from peerd.wire.keys import PeerKey

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
    children: list[Child] = []
    keep = [False]
    bury_strangers(lambda: [child.process.pid for child in children])
    async with stopping(children, keep=keep):
        views = await start(options, members, folder, children, console)
        await watch(views, options.rounds, console, SECONDS_PER_ROUND * options.rounds)
        console.print("measuring every model on its peer's unseen test text")
        peers = [await measure(view) for view in views]
        rounds = {view.member.name: view.rounds for view in views}
        keep[0] = options.keep
    result = DemoResult(
        peers=peers,
        seconds=round(time.monotonic() - begun, 1),
        report=str(folder),
        trust_scheme=options.trust,
        same_kind_share=same_kind_share(peers),
        gain_over_local=gain_over_local(peers),
    )
    report.write(result, rounds, folder)
    report.show(result, console)
    if options.keep:
        say_what_goes_on(members, children, console)
    else:
        shutil.rmtree(folder / "homes", ignore_errors=True)
        shutil.rmtree(folder / "text", ignore_errors=True)
    return result


def say_what_goes_on(members: list[Member], children: list[Child], console: Console) -> None:
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
    """Text folders, homes and identities."""
    if options.data is not None:
        dealt = own_folders(options.data)
        names = [domain for domain, _ in dealt]
    else:
        console.print(f"dealing text from this installation to {options.peers} peers (prose, Python, C++)")
        dealt = deal_installed(options.peers, folder / "text", options.seed)
        names = names_of([domain for domain, _ in dealt])
    members = []
    for name, (domain, text) in zip(names, dealt, strict=True):
        home = folder / "homes" / name
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = PeerKey.load_or_create(Paths.of(home).identity)
        members.append(Member(name=name, domain=domain, text=text, home=home, peer_id=key.peer_id))
    return members


async def start(
    options: DemoOptions, members: list[Member], folder: Path, children: list[Child], console: Console
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


async def measure(view: View) -> DemoPeer:
    """The final figures of one daemon, asked of itself."""
    async with AsyncClient(home=view.member.home) as client:
        status, losses, rounds = await client.status(), await client.test(), await client.rounds()
    merged = [record for record in rounds if len(record.row) > 1]
    return DemoPeer(
        name=view.member.name,
        peer_id=view.member.peer_id,
        domain=view.member.domain,
        perplexity=DemoPerplexity(
            base=perplexity(losses.base),
            local=perplexity(losses.local),
            own=perplexity(losses.own),
            personal=perplexity(losses.personal),
        ),
        trust=dict(rounds[-1].row),
        rounds=len(rounds),
        accepted=sum(record.accepted for record in merged),
        bytes_in=status.traffic.bytes_in,
        bytes_out=status.traffic.bytes_out,
        refused=status.refused,
    )
