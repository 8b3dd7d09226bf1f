"""Looks at every option of `peerd start` before anything is started or written, so that a mistake costs a second.

It also makes paths absolute, because options are remembered and the next start may be typed somewhere else.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from p2pfinetune.codec import CODECS
from p2pfinetune.data.encodings import is_encoding
from p2pfinetune.errors import ModelError, OptionError
from p2pfinetune.merge import RULES
from p2pfinetune.model.from_gguf import must_hold_a_model
from p2pfinetune.model.gguf_header import SUFFIX, is_gguf
from p2pfinetune.model.precision import CHOICES
from p2pfinetune.names import Refusal
from p2pfinetune.options import INT64, NANO, AdapterSpec, sections
from p2pfinetune.options.pieces import assembly_options, must_share_pieces
from p2pfinetune.registry import Registry
from p2pfinetune.round.twin_choice import CHOICES as TWINS
from p2pfinetune.system.path_names import is_plain, shown
from p2pfinetune.training.trainers import TRAINERS, must_train_levels
from p2pfinetune.trust import SCHEMES, must_go_together
from peerd.config import Config
from peerd.control.peer_names import fault
from peerd.control.render import printable
from peerd.errors import UsageError
from peerd.machine.paths import absolute
from peerd.net import limits
from peerd.wire.addresses import DIRECT, EXAMPLE, NAMES, NO_RELAYS, is_for_others, parse_address
from peerd.wire.keys import load_group_key
from peerd.wire.messages import MAX_ADDRESSES

DEVICES = ("auto", "cpu", "cuda", "mps")
MIN_NOISE, MAX_NOISE = 1e-4, 1e4  # an epsilon of some millions for one update; of some ten-thousandths
MAX_DELTA = 0.01  # one in a hundred: larger ones are mistaken for what they are not
MAX_DEVIATION = 0.9  # peers refuse updates with a root mean square beyond 1: `update.default_max_norm`
ANNOUNCED = "--announce /ip4/203.0.113.7/tcp/4001"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")  # `gpt2` or `owner/model`


def checked(config: Config) -> Config:
    """The same configuration with absolute paths. Raises UsageError that names the option and what to do."""
    found = msgspec.structs.replace(
        config,
        data=tuple(_existing("--data", text) for text in config.data),
        reference=_existing("--reference", config.reference) if config.reference else "",
        group_key=_existing("--group-key", config.group_key) if config.group_key else "",
        model=_model(config.model),
        encoding=encodings_checked(config.encoding),
    )
    for check in _CHECKS:
        check(found)
    return found


def _text(config: Config) -> None:
    """What is remembered is UTF-8."""
    for name, value in msgspec.to_builtins(config).items():
        if not is_plain(json.dumps(value, ensure_ascii=False)):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option}: {shown(str(value))} holds bytes that are no UTF-8", "write it in UTF-8")


def _data(config: Config) -> None:
    if not config.data:
        raise UsageError(
            "there is no text to learn from: give --data once, it is remembered",
            "for example: peerd start --data ~/notes",
        )


def _names(config: Config) -> None:
    for option, text in (("--name", config.name), ("--group", config.group)):
        if printable(text) != text:
            raise UsageError(f"{option}: {printable(text)!r} holds characters that cannot be seen", "use plain words")
    if seen := fault(config.name):
        raise UsageError(
            f"--name: others would see {seen!r}: brackets and what cannot be seen are left out", "choose another"
        )
    if not config.group:
        raise UsageError("--group cannot be empty", "leave it out, or: --group NAME")


def _plugins(config: Config) -> None:
    registries: tuple[tuple[str, Registry[Any], str, dict[str, Any]], ...] = (
        ("--trainer", TRAINERS, config.trainer, config.trainer_options),
        ("--trust", SCHEMES, config.trust, config.trust_options),
        ("--merge", RULES, config.merge, config.merge_options),
        ("--codec", CODECS, config.codec, {}),
    )
    for option, registry, name, options in registries:
        try:
            registry.make(name, options)
        except OptionError as error:
            raise UsageError(f"{option}: {error}", error.hint) from error
    try:
        must_go_together(
            SCHEMES.make(config.trust, config.trust_options), RULES.make(config.merge, config.merge_options)
        )
    except OptionError as error:
        raise UsageError(f"--trust {config.trust} with --merge {config.merge}: {error}", error.hint) from error
    if config.trust == "oracle" and not config.shares:
        choices = ", ".join(name for name in SCHEMES.names() if name != "oracle")
        raise UsageError(
            "--trust oracle needs declared shares; it is for the demo and the simulator", f"use: {choices}"
        )


def _sharing(config: Config) -> None:
    if config.sharing not in RULES.find(config.merge).sharings:
        fit = ", ".join(name for name in RULES.names() if config.sharing in RULES.find(name).sharings)
        raise UsageError(
            f"--merge {config.merge} needs both factors of an adapter as they are at all peers, and --sharing "
            f"{config.sharing} does not tell them so",
            f"choose one of: {fit}",
        )


def _several(config: Config) -> None:
    """What goes with several adapters in a layer, and what does not."""
    if config.own_rank > config.rank:
        return  # which has words of its own
    try:
        spec = sections.of(AdapterSpec, config)
        must_train_levels(TRAINERS.make(config.trainer, config.trainer_options), spec)
    except OptionError as error:
        raise UsageError(f"--sharing {config.sharing}: {error}", error.hint) from error


def _own_rank(config: Config) -> None:
    if config.own_rank > config.rank:
        raise UsageError(
            f"--own-rank: {config.own_rank} is above the network's rank, {config.rank}",
            f"give at most {config.rank}, or 0 for all of it",
        )


def _addresses(config: Config) -> None:
    for option, texts in (("--bootstrap", config.bootstrap), ("--peer", config.peer), ("--listen", config.listen)):
        for text in texts:
            found = parse_address(text)
            if isinstance(found, Refusal):
                raise UsageError(f"{option}: {printable(text)!r}: {found.detail}", f"for example: {EXAMPLE}")
            if found.relay is not None:
                raise UsageError(f"{option}: {text!r} leads through a relay, which {NO_RELAYS}", DIRECT)
            if option != "--listen" and found.peer is None:
                raise UsageError(f"{option}: {text!r} does not end in /p2p/PEER-ID", f"for example: {EXAMPLE}")
            if option == "--listen" and found.peer is not None:
                raise UsageError(f"--listen: {text!r} ends in a peer id", f"use: {found.transport}")
    if not config.listen:
        raise UsageError("--listen cannot be empty", "for example: --listen /ip4/0.0.0.0/tcp/0")


def _announce(config: Config) -> None:
    """What is announced has to be of use to those who hear it; it is told before this machine's own addresses."""
    if len(config.announce) > MAX_ADDRESSES:
        raise UsageError(f"--announce: {len(config.announce)} addresses are too many", f"give {MAX_ADDRESSES} at most")
    for text in config.announce:
        found = parse_address(text)
        if isinstance(found, Refusal):
            raise UsageError(f"--announce: {printable(text)!r}: {found.detail}", f"for example: {ANNOUNCED}")
        if found.relay is not None:
            raise UsageError(f"--announce: {text!r} leads through a relay, which lets nobody through to me", DIRECT)
        if found.peer is not None:
            raise UsageError(f"--announce: {text!r} ends in a peer id", f"use: {found.transport}")
        if found.kind in NAMES:
            raise UsageError(
                f"--announce: {text!r} is a name, and peers resolve no names that others tell them",
                f"give the IP address: {ANNOUNCED}",
            )
        if not is_for_others(found):
            raise UsageError(
                f"--announce: nobody else can dial {text!r}",
                f"give the address and port at which others reach this machine: {ANNOUNCED}",
            )


def _group_key(config: Config) -> None:
    if config.group_key:
        load_group_key(Path(config.group_key))


def _device(config: Config) -> None:
    if config.device not in DEVICES:
        raise UsageError(f"--device: there is no device {config.device!r}", f"choose one of: {', '.join(DEVICES)}")


def _precision(config: Config) -> None:
    if config.precision not in CHOICES:
        names = ", ".join(CHOICES)
        raise UsageError(f"--precision: there is no precision {config.precision!r}", f"choose one of: {names}")


def _twin(config: Config) -> None:
    if config.twin not in TWINS:
        names = ", ".join(TWINS)
        raise UsageError(f"--twin: there is no {config.twin!r}", f"choose one of: {names}; --no-twin is --twin off")


def _finite(config: Config) -> None:
    """A rate or a wait without end is a slip, and so is a whole number that no file of ours can hold."""
    for name in config.__struct_fields__:
        value = getattr(config, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{name.replace('_', '-')} has to be a finite number", "see: peerd start --help")
    for option, options in (
        ("--trust-option", config.trust_options),
        ("--merge-option", config.merge_options),
        ("--trainer-option", config.trainer_options),
    ):
        for name, value in options.items():
            if isinstance(value, int | float) and not -INT64 <= value <= INT64:
                raise UsageError(f"{option} {name}: {str(value)[:40]} is out of range", "give a smaller number")


def _pieces(config: Config) -> None:
    try:
        assembly_options(config.assemble_options)
        if config.assemble or config.gate_steps:
            must_share_pieces(config.sharing)
    except OptionError as error:
        raise UsageError(f"--assemble and --gate-steps: {error}", error.hint) from error
    if config.gate_steps and config.private_clip:
        raise UsageError(
            "--gate-steps gives away gates, which --private-noise does not hide",
            "choose one of the two: --gate-steps 0, or --private-clip 0 --private-noise 0",
        )


def _privacy(config: Config) -> None:
    clip, noise = config.private_clip, config.private_noise
    if not (clip or noise or config.private_budget):
        return
    if not (clip and noise):
        raise UsageError(
            "private publishing needs both --private-clip and --private-noise",
            "for example: --private-clip 0.05 --private-noise 4   (0 for both turns it off)",
        )
    if SCHEMES.make(config.trust, config.trust_options).pairing is not None:
        raise UsageError(
            f"--trust {config.trust} tells neighbours of gradients, which --private-noise does not hide",
            "choose another --trust, or publish without noise: --private-clip 0 --private-noise 0",
        )
    if not MIN_NOISE <= noise <= MAX_NOISE:
        raise UsageError(
            f"--private-noise is between {MIN_NOISE:g} and {MAX_NOISE:g}",
            "--private-noise 4 spends an epsilon of about 1 with the first update",
        )
    if config.private_delta > MAX_DELTA:
        raise UsageError(
            f"--private-delta: a promise that fails with a chance of {config.private_delta:g} is none",
            f"at most {MAX_DELTA:g}; the default is {Config().private_delta:g}",
        )
    if 2.0 * clip * noise > MAX_DEVIATION:
        raise UsageError(
            f"noise of 2 x {clip:g} x {noise:g} = {2 * clip * noise:g} in every number is more than other peers take",
            f"choose clip x noise of at most {MAX_DEVIATION / 2:g}; the protection depends on --private-noise alone",
        )


def _rates(config: Config) -> None:
    least = limits.MIN_PACE // 1024
    for option, kib in (("--max-upload", config.max_upload), ("--max-download", config.max_download)):
        if 0 < kib < least:
            raise UsageError(
                f"{option}: {kib} KiB a second is too slow for an update to arrive",
                f"at least {least}, or 0 for no limit",
            )


_CHECKS: tuple[Callable[[Config], None], ...] = (
    _text,
    _data,
    _names,
    _plugins,
    _sharing,
    _own_rank,
    _several,
    _addresses,
    _announce,
    _group_key,
    _device,
    _precision,
    _twin,
    _finite,
    _pieces,
    _privacy,
    _rates,
)


def _existing(option: str, text: str) -> str:
    path = absolute(text)
    try:
        path.stat()
    except OSError as error:
        raise UsageError(f"{option}: cannot find {path}: {error.strerror}", "is it spelt right?") from error
    return str(path)


def encodings_checked(said: Mapping[str, str]) -> dict[str, str]:
    """Absolute paths, none for all, and Python's own names. Raises UsageError."""
    return {_place(path): _encoding(name) for path, name in said.items()}


def _place(path: str) -> str:
    return _existing("--encoding", path) if path else ""


def _encoding(name: str) -> str:
    if not is_encoding(name):
        raise UsageError(
            f"--encoding: Python knows no encoding {printable(name)!r}",
            "for example: --encoding cp1250, or for one folder: --encoding ~/old-mail=koi8-r",
        )
    return codecs.lookup(name).name


def _model(text: str) -> str:
    """A folder or a GGUF file becomes absolute, a name stays; what looks like a path but leads nowhere is a mistake."""
    if text == NANO:  # whatever lies in the working directory; a folder of that name is ./nano
        return text
    if text.startswith("~") or Path(text).exists():
        path = absolute(text)
        if path.is_file():
            return str(_gguf(path))
        if path.is_dir():
            return str(path)
    if text.startswith(("/", ".", "~")) or text.lower().endswith(SUFFIX) or not _HUB_NAME.fullmatch(text):
        hint = "name a folder with a model, a .gguf file, a Hugging Face model, or nano"
        raise UsageError(f"--model: there is no model at {printable(text)!r}", hint)
    return text


def _gguf(path: Path) -> Path:
    """Raises UsageError for a file that is no GGUF with a model, or a damaged one: before anything is started."""
    if not is_gguf(path):
        raise UsageError(f"--model: {path} is a file, and no GGUF", "name the folder around it, or a .gguf file")
    try:
        must_hold_a_model(path)
    except ModelError as error:
        raise UsageError(f"--model: {error}", error.hint) from error
    return path


def open_group_warning(config: Config) -> str:
    """What an open group means; empty if a key closes it."""
    if config.group_key:
        return ""
    return (
        f"The group {config.group!r} is open: whoever can reach this device can join, and gets the adapter that\n"
        "is trained on your text (never the text; but an adapter can betray something of what it was trained on).\n"
        "To close the group, give every member the same key:\n"
        "  (umask 077; openssl rand -hex 32 > group.key) && peerd start --group-key group.key"
    )
