"""What a user can choose, as one frozen value; kept in the home as `config.toml`, so that options are given once.

Options of learning are `p2pfinetune.options`; here is what makes them a daemon's. `Config` is all of them, flat.

An option is one line: its type, range, help and default. The command line, the file, the documents and the checks are
made from that line, so they cannot disagree. It is flat because the command line is: one name has one meaning, and a
part that needs a few of them takes its own section out (`sections.of`).

Options of one network have to agree (model, group, shape of the adapter): they are in the network digest, and peers
that differ in them never meet. All others are each peer's own affair.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from p2pfinetune.options import (
    AdapterOptions,
    Amount,
    CollaborationOptions,
    ConversationOptions,
    HeldOptions,
    HorizonOptions,
    LevelOptions,
    ModelOptions,
    NotNegative,
    OrderOptions,
    Positive,
    ProfileOptions,
    Seconds,
    SeveralOptions,
    StepOptions,
    TrainerOptions,
    UpdateOptions,
)
from p2pfinetune.options.pieces import GateOptions, NewcomerOptions
from p2pfinetune.options.sections import Section


class OwnOptions(Section):
    """Who this is, and what it learns from."""

    name: Annotated[str, Meta(max_length=64, description="Display name shown to other peers.")] = ""
    data: Annotated[
        tuple[str, ...], Meta(description="Files and folders with your text; it never leaves this device.")
    ] = ()
    encoding: Annotated[
        dict[str, str],
        Meta(
            description="What text of old files is in that is not Unicode, by folder or file; guessed if nothing is "
            "said."
        ),
    ] = field(default_factory=dict)
    me: Annotated[
        str,
        Meta(
            max_length=64,
            description="Your name in exports of messengers: what you wrote is what is learnt. Empty: all of it is.",
        ),
    ] = ""
    keep_secrets: Annotated[
        bool,
        Meta(
            description="Train on lines that look like passwords, tokens or private keys, too. What is learnt by heart "
            "can be asked out of an adapter, and others have it."
        ),
    ] = False
    reference: Annotated[
        str, Meta(description="Public text for prediction-similarity instead of the own trust split.")
    ] = ""


class MeetingOptions(Section):
    """Whom it meets, and how."""

    group: Annotated[str, Meta(max_length=64, description="Peers of different groups never mix.")] = "default"
    group_key: Annotated[
        str, Meta(description="File with a pre-shared key (64 hexadecimal digits) that closes the group.")
    ] = ""
    bootstrap: Annotated[tuple[str, ...], Meta(description="Multiaddrs of rendezvous nodes.")] = ()
    peer: Annotated[tuple[str, ...], Meta(description="Multiaddrs of peers to keep a connection with.")] = ()
    lan: Annotated[bool, Meta(description="Find peers on the local network by mDNS.")] = False
    listen: Annotated[tuple[str, ...], Meta(description="Addresses to listen on.")] = ("/ip4/0.0.0.0/tcp/0",)
    announce: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses at which others reach this machine, as of a port that a router forwards; told "
            "before its own."
        ),
    ] = ()


class RoundOptions(Section):
    """How rounds go; the core reads these and `HorizonOptions`."""

    steps_per_round: Annotated[Positive, Meta(description="Optimizer steps between two merges.")] = 20
    rounds: Annotated[NotNegative, Meta(description="Rest for good after so many rounds; 0: never.")] = 0
    warmup_rounds: Annotated[NotNegative, Meta(description="First rounds without merging.")] = 1
    patience: Annotated[Positive, Meta(description="Rounds without a better guard loss before training rests.")] = 8
    collect_seconds: Annotated[Seconds, Meta(description="Longest wait for neighbours' updates in a round.")] = 30.0
    staleness_seconds: Annotated[Seconds, Meta(description="Updates older than this take no part.")] = 3600.0
    max_neighbours: Annotated[int, Meta(ge=1, le=1_024, description="Peers whose updates are fetched and merged.")] = 16


class FirstOptions(Section):
    """What a newcomer does before its first round; docs/how-to/assemble.md."""

    assemble: Annotated[
        bool,
        Meta(
            description="In a new home, put a first model together of pieces of the neighbours' adapters before any "
            "training."
        ),
    ] = False
    assemble_seconds: Annotated[
        Seconds, Meta(description="Longest wait for neighbours to assemble from; then training begins as usual.")
    ] = 60.0


class PrivacyOptions(Section):
    """How what is published is hidden; see docs/how-to."""

    private_clip: Annotated[
        Amount,
        Meta(
            description="Publish with differential privacy: shorten every update to this norm; with --private-noise. "
            "0: off."
        ),
    ] = 0.0
    private_noise: Annotated[
        Amount,
        Meta(description="Standard deviation of the noise on a published update, in units of twice the clip."),
    ] = 0.0
    private_delta: Annotated[
        float,
        Meta(
            gt=0,
            lt=1,
            description="The chance that the promise of epsilon fails: far below one in the number of people it "
            "protects.",
        ),
    ] = 1e-5
    private_budget: Annotated[
        Amount,
        Meta(
            description="Stop publishing, and nothing else, before all updates together exceed this epsilon. "
            "0: no limit."
        ),
    ] = 0.0


class MachineOptions(Section):
    """What of the machine and of its line it may take."""

    threads: Annotated[int, Meta(ge=0, le=1024, description="Torch threads of the worker; 0: torch decides.")] = 0
    worker_memory: Annotated[
        NotNegative,
        Meta(description="MiB that training may take, on Linux; 0: three quarters of the machine's."),
    ] = 0
    serve_share: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="Share of the worker's time for answers while somebody waits for one; training has the rest. "
            "1: it waits until they are given.",
        ),
    ] = 0.8
    max_upload: Annotated[
        NotNegative,
        Meta(description="KiB a second for sending updates to others, all together; 0: no limit."),
    ] = 0
    max_download: Annotated[
        NotNegative,
        Meta(description="KiB a second for fetching others' updates, all together; 0: no limit."),
    ] = 0


class Config(
    OwnOptions,
    ProfileOptions,
    ConversationOptions,
    ModelOptions,
    MeetingOptions,
    CollaborationOptions,
    UpdateOptions,
    AdapterOptions,
    HeldOptions,
    SeveralOptions,
    TrainerOptions,
    StepOptions,
    HorizonOptions,
    LevelOptions,
    OrderOptions,
    RoundOptions,
    FirstOptions,
    GateOptions,
    NewcomerOptions,
    PrivacyOptions,
    MachineOptions,
):
    """Options of `peerd start`; the command line overrides the file and is remembered."""

    twin: Annotated[
        str,
        Meta(
            description="A twin that never merges shows what training alone gives: on, off, or auto, if it costs "
            "little."
        ),
    ] = "auto"
    shares: Annotated[
        dict[str, tuple[float, ...]],
        Meta(
            description="Declared category shares by peer id, for the `oracle` scheme in the demo; never sent to "
            "anyone."
        ),
    ] = field(default_factory=dict)
