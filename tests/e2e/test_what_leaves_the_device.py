"""Your text never leaves the device: everything that two real daemons with real workers hand to the network is looked at."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfinetune.model.base import load_base
from p2pfinetune.names import Refusal
from peerd.config import Config
from peerd.daemon.assembly import Daemon
from peerd.daemon.ports import Ports
from peerd.machine.paths import Paths
from peerd.net.transport import Found
from peerd.testing.network import MemoryNetwork
from peerd.wire.envelope import open_announcement

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PATIENCE_SECONDS = 500.0  # two workers load torch on a busy machine
LETTERS, TOKENS = 12, 4  # an overlap of this many in random bytes is not to be expected in a million runs
NAMES = ("Oberon", "Titania", "Lysander", "Hermia", "Demetrius", "Helena", "Egeus", "Quince", "Bottom", "Snug")
DEEDS = ("owes", "confessed to", "hid the letters of", "was diagnosed before", "secretly married", "pays rent to")


class TappedShelf:
    """Writes down what is served."""

    def __init__(self, shelf: Any) -> None:
        self._shelf, self.served = shelf, dict[str, bytes]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shelf, name)

    def read(self, digest: str, offset: int, length: int) -> bytes:
        data = self._shelf.read(digest, offset, length)
        self.served[digest] = self.served.get(digest, b"") + data
        return data


class Tap:
    """A transport that writes down all bytes and words that are handed to it."""

    def __init__(self, wires: MemoryNetwork, key: Any, network: Any, shelf: Any) -> None:
        self.shelf = TappedShelf(shelf)
        self._transport = wires.node(key.peer_id, self.shelf, network)
        self.published: list[bytes] = []
        self.asked: list[str] = []

    async def publish(self, message: bytes) -> Any:
        self.published.append(message)
        return await self._transport.publish(message)

    async def fetch(self, *arguments: Any) -> Any:
        self.asked.append(repr(arguments))
        return await self._transport.fetch(*arguments)

    async def connect(self, *arguments: Any) -> Any:
        self.asked.append(repr(arguments))
        return await self._transport.connect(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def private_text(seed: int) -> str:
    dice = random.Random(seed)
    lines = []
    for _ in range(700):
        one, other = dice.sample(NAMES, 2)
        lines.append(
            f"{one} {dice.choice(DEEDS)} {other}, {dice.randrange(10_000, 99_999)} since {dice.randrange(1800, 2030)}."
        )
    return "\n".join(lines)


def paragraphs(text: str) -> Iterator[str]:
    lines = text.split("\n")
    for begin in range(0, len(lines), 10):
        yield "\n".join(lines[begin : begin + 10])


async def until(daemon: Daemon, is_so: Any) -> None:
    changes = daemon._shell.changes()
    while not is_so():
        await anext(changes)
    await changes.aclose()


async def life(folder: Path, *, private: bool) -> list[tuple[str, Tap]]:
    """Two daemons until each has merged with the other twice; their texts and what they handed to the network."""
    wires, taps, daemons = MemoryNetwork(), {}, []
    ports = Ports(
        transport=lambda key, network, shelf, config: taps.setdefault(config.name, Tap(wires, key, network, shelf)),
        prepare=lambda: None,
        signals=False,
    )
    texts = [private_text(seed) for seed in range(2)]
    for number, text in enumerate(texts):
        data = folder / f"text-{number}"
        data.mkdir()
        for place, part in enumerate(paragraphs(text)):
            (data / f"{place}.txt").write_text(part)
        paths = Paths.of(folder / f"home-{number}")
        paths.prepare()
        options: dict[str, Any] = {"private_clip": 0.05, "private_noise": 4.0} if private else {}
        config = Config(
            name=f"peer-{number}", data=(str(data),), steps_per_round=2, batch_size=2, context=64, warmup_rounds=0,
            collect_seconds=60.0, threads=1, device="cpu", precision="fp32", twin="off", trust_tokens=256, guard_tokens=256,
            patience=1000, **options,
        )  # fmt: skip
        daemons.append(Daemon(paths, config, lambda _: None, ports))
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
        for daemon in daemons:
            tasks.create_task(daemon.run(), name="daemon")
        for daemon in daemons:
            await until(daemon, lambda daemon=daemon: daemon.status().addresses)
        other = daemons[1]._key.peer_id
        daemons[0]._found(Found(other, (f"/memory/{other}/p2p/{other}",), "test"))
        for daemon in daemons:
            await until(daemon, lambda daemon=daemon: sum(len(r.row) > 1 for r in daemon._journal.records) >= 2)
        for daemon in daemons:
            daemon._ending.begin("test")
    return [(text, taps[f"peer-{number}"]) for number, text in enumerate(texts)]


@pytest.mark.parametrize("private", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_nothing_of_the_text_is_in_anything_that_leaves(private: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="pd-") as folder:
        lives = asyncio.run(life(Path(folder), private=private))
    tokenizer = load_base("nano", device="cpu").tokenizer
    sizes = {made.size for _, tap in lives for made in map(announcement, tap.published)}
    assert len(sizes) == 1, "the size of an update depends on the text"
    for text, tap in lives:
        announced = {made.blob: made for made in map(announcement, tap.published)}
        assert len(announced) >= 2
        assert tap.shelf.served
        for digest, served in tap.shelf.served.items():
            assert len(served) == announced[digest].size, "something was served that I never announced"

        left = [*tap.published, *tap.shelf.served.values(), *(asked.encode() for asked in tap.asked)]
        ids = np.array(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        for bytes_ in (text.encode(), text.lower().encode(), text.encode("utf-16-le")):
            assert not overlap(bytes_, left, LETTERS, 1)
        for width in (np.dtype("<u2"), np.dtype("<u4"), np.dtype("<i8")):
            assert not overlap(ids.astype(width).tobytes(), left, TOKENS * width.itemsize, width.itemsize)
        assert overlap(text.encode(), [b"what if " + text.encode()[100:120]], LETTERS, 1), "the search finds nothing"


def announcement(message: bytes) -> Any:
    found = open_announcement(message)
    assert not isinstance(found, Refusal), "something else than an announcement was gossiped"
    return found


def overlap(secret: bytes, left: list[bytes], length: int, stride: int) -> bool:
    """Whether any run of so many bytes of the secret, from any symbol on, stands anywhere in what left."""
    runs = {secret[start : start + length] for start in range(0, len(secret) - length + 1, stride)}
    return any(data[start : start + length] in runs for data in left for start in range(len(data) - length + 1))
