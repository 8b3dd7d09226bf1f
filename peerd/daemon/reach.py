"""Who can reach this machine, and what others have to type to join it. Pure words about addresses and options.

A machine knows the addresses of its own interfaces and no others: behind a router that forwards a port, the one that
works is known to its owner alone (`--announce`). What has to be the same on both sides is what the network digest is
made of; a path of this machine is no use to another, so files are named by what they are.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from peerd.config import Config
from peerd.control.render import printable
from peerd.wire.addresses import Address, for_others, is_public, parse_address
from peerd.wire.messages import MAX_ADDRESS, MAX_ADDRESSES

MOST_SHOWN = 3  # addresses in a sentence


def joining(config: Config) -> str:
    """The options that make another daemon one of the same network, as they are typed behind `peerd start`.

    FILE, FOLDER and MODEL.gguf stand for copies of this machine's own; see `placeholders`.
    """
    usual = Config()
    words = ["--model", _stands_for(config.model) or shlex.quote(printable(config.model))]
    if config.group != usual.group:
        words += ["--group", shlex.quote(printable(config.group))]
    if config.group_key:
        words += ["--group-key", "FILE"]
    for option, value, default in (("--rank", config.rank, usual.rank), ("--alpha", config.alpha, usual.alpha)):
        words += [option, str(value)] if value != default else []
    if config.sharing != usual.sharing:
        words += ["--sharing", config.sharing]
    for target in config.targets:
        words += ["--targets", shlex.quote(printable(target))]
    return " ".join(words)


def placeholders(config: Config) -> list[str]:
    """What FILE, FOLDER and MODEL.gguf stand for, in sentences."""
    found = []
    if config.group_key:
        found.append(f"FILE is a copy of {printable(config.group_key)}, handed over where nobody else sees it.")
    if stands_for := _stands_for(config.model):
        found.append(f"{stands_for} holds the same model as {printable(config.model)}.")
    return found


def _stands_for(model: str) -> str:
    """What is typed in place of a path of this machine; empty if the model has a name that is the same everywhere."""
    if not model.startswith("/"):
        return ""
    return "MODEL.gguf" if model.endswith(".gguf") else "FOLDER"


def unannounced(registered: Sequence[Address], addresses: Sequence[str]) -> str:
    """A sentence if bootstrap nodes of the internet know this machine by private addresses alone; else empty.

    `registered`: the bootstrap nodes that answered; `addresses`: what they were told.
    """
    public = [node for node in registered if is_public(node)]
    told = [one for one in map(parse_address, addresses) if isinstance(one, Address)]
    if not public or any(is_public(one) for one in told):
        return ""
    private = ", ".join(one.transport for one in told[:MOST_SHOWN]) or "none"
    return (
        f"The bootstrap node at {public[0].transport} is on the internet, and this machine has only private "
        f"addresses to register there ({private}): peers elsewhere cannot dial it, it can only dial them. If your "
        "router forwards a port to it, name that: peerd stop; peerd start --announce /ip4/PUBLIC-ADDRESS/tcp/PORT"
    )


def invitations(config: Config, addresses: Sequence[str]) -> list[str]:
    """What others type to join this peer, each on a machine of its own; loopback is no address for them."""
    options = joining(config)
    return [f"peerd start --data THEIR-FOLDER {options} --peer {address}" for address in for_others(addresses)]


def invitation_notes(config: Config, addresses: Sequence[str]) -> list[str]:
    """What has to be known of the invitations, or why there is none."""
    usable = [one for one in map(parse_address, for_others(addresses)) if isinstance(one, Address)]
    if usable:
        return [*placeholders(config), *([] if any(map(is_public, usable)) else [_PRIVATE])]
    if not addresses:
        return ["No address yet: nobody can join me."]
    return [
        (
            "Nobody on another machine can reach me: this daemon has only addresses of this machine itself "
            f"({', '.join(addresses[:MOST_SHOWN])}). To be reached: peerd stop; peerd start --listen "
            "/ip4/0.0.0.0/tcp/4001"
        ),
        (
            "On this machine another daemon joins with: peerd start --home ANOTHER-FOLDER --data FOLDER "
            f"{joining(config)} --peer {addresses[0]}"
        ),
    ]


_PRIVATE = (
    "These addresses are private: they lead here from the same local network or VPN alone. From elsewhere, peers meet "
    "at a bootstrap node (--bootstrap), or come through a port that your router forwards (--announce)."
)


def fitting(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Those that an announcement can carry."""
    return tuple(address for address in addresses if len(address.encode()) <= MAX_ADDRESS)[:MAX_ADDRESSES]
