"""Two whole daemons of which one was started otherwise: the owners of both are told what is the matter."""

import asyncio

import pytest
from msgspec.structs import replace

from peerd.net.transport import Found
from peerd.wire.messages import VERSION


def said_by(daemon):
    return [notice for notice in daemon.status().notices if notice.startswith("Somebody was met")]


@pytest.fixture(autouse=True)
def _of_known_identities(world):
    """What is compared is 8 bits under an id, which of others agree once in 256."""
    for name, seed in (("a", 1), ("b", 2)):
        identity = world.paths(name).identity
        identity.write_bytes(bytes([seed]) * 32)
        identity.chmod(0o600)


async def meet(one, other):
    await one.rounds(1)
    await other.rounds(1)
    one.daemon._found(Found(other.me, (f"/memory/{other.me}/p2p/{other.me}",), "test"))
    await one.until(lambda: said_by(one) and said_by(other))


@pytest.mark.parametrize(
    ("options", "words", "command"),
    [
        ({"group": "painters"}, "it is in another group", "--group NAME"),
        ({"model": "gpt2"}, "it has another base model", "--model NAME"),
        ({"rank": 4}, "it has the same model and adapts it otherwise", "--rank, --alpha, --sharing and --targets"),
    ],
)
def test_the_owners_of_both_are_told_in_words_what_is_the_matter_and_what_to_type(world, options, words, command):
    async def scenario():
        async with world.daemon("a") as one, world.daemon("b", **options) as other:
            await meet(one, other)
            for found in (one, other):
                (said,) = said_by(found)
                assert words in said
                assert command in said
                assert found.status().health.ok  # nobody was named here; see test_introductions

    asyncio.run(scenario())


def test_the_owners_of_two_versions_are_told_to_compare_them(world):
    async def scenario():
        async with world.daemon("a") as one, world.daemon("b", group="painters") as other:
            await other.rounds(1)
            transport = world.wires.nodes[other.me]
            transport.traits = replace(transport.traits, version=VERSION + 1)
            await meet(one, other)
            for found in (one, other):
                assert ["peerd --version" in said for said in said_by(found)] == [False, True]

    asyncio.run(scenario())
