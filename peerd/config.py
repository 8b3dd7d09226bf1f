"""What a user can choose, as one frozen value; kept in the home as `config.toml`, so that options are given once."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

# The upper bounds are far beyond use. They keep a slip of the finger from being a number that no file, message or
# library of ours can hold, which would be told much later and by another name.
MANY = 10**9
Positive = Annotated[int, msgspec.Meta(ge=1, le=MANY)]
NotNegative = Annotated[int, msgspec.Meta(ge=0, le=MANY)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=MANY)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=MANY)]
INT64 = 2**63 - 1
Seed = Annotated[int, msgspec.Meta(ge=-INT64, le=INT64)]
"""What SQLite, TOML, MessagePack and torch's generators all hold."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `peerd start`; the command line overrides the file and is remembered."""

    name: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """Display name shown to other peers."""
    data: tuple[str, ...] = ()
    """Files and folders with your text; it never leaves this device."""
    encoding: dict[str, str] = {}
    """What text of old files is in that is not Unicode, by folder or file; guessed if nothing is said."""
    model: str = "nano"
    """Base model: `nano` (embedded), a folder, or a Hugging Face name."""
    group: Annotated[str, msgspec.Meta(max_length=64)] = "default"
    """Peers of different groups never mix."""
    group_key: str = ""
    """File with a pre-shared key (64 hexadecimal digits) that closes the group."""
    bootstrap: tuple[str, ...] = ()
    """Multiaddrs of rendezvous nodes."""
    peer: tuple[str, ...] = ()
    """Multiaddrs of peers to keep a connection with."""
    lan: bool = False
    """Find peers on the local network by mDNS."""
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    """Addresses to listen on."""
    announce: tuple[str, ...] = ()
    """Addresses at which others reach this machine, as of a port that a router forwards; told before its own."""
    trust: str = "prediction-similarity"
    """Trust scheme; see docs/how-to."""
    trust_options: dict[str, Any] = {}
    """Options of the trust scheme."""
    reference: str = ""
    """Public text for prediction-similarity instead of the own trust split."""
    merge: str = "factor-mean"
    """Merge rule."""
    merge_options: dict[str, Any] = {}
    """Options of the merge rule."""
    codec: str = "bf16"
    """How updates are written for the network."""
    twin: str = "auto"
    """A twin that never merges shows what training alone gives: on, off, or auto, if it costs little."""
    rank: Annotated[int, msgspec.Meta(ge=1, le=4_096)] = 8
    """LoRA rank; part of the network's identity."""
    alpha: Positive = 16
    """LoRA alpha; part of the network's identity."""
    targets: tuple[str, ...] = ()
    """Module names to adapt; empty: our table for the model family."""
    steps_per_round: Positive = 20
    """Optimizer steps between two merges."""
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 8
    """Sequences a micro-batch."""
    accumulation: Positive = 1
    """Micro-batches a step."""
    context: Annotated[int, msgspec.Meta(ge=1, le=1_048_576)] = 256
    """Tokens a sequence."""
    lr: Annotated[float, msgspec.Meta(gt=0, le=MANY)] = 2e-3
    """Peak learning rate."""
    total_steps: NotNegative = 0
    """With a known number of steps: OneCycle over them, then resting. 0: run for ever, constant after warm-up."""
    rounds: NotNegative = 0
    """Rest for good after so many rounds; 0: never."""
    warmup_rounds: NotNegative = 1
    """First rounds without merging."""
    patience: Positive = 8
    """Rounds without a better guard loss before training rests."""
    tolerance: Amount = 0.05
    """How far, in nats a token and in total, the guard loss may lie above the best ever reached."""
    credit: Amount = 0.0
    """How much worse than the own adapter, in nats a token, a merge may measure, until that is regained."""
    max_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.4
    """Most that any single neighbour weighs in a merge; what is above goes to the own adapter. 1: no bound."""
    trust_tokens: NotNegative = 4096
    """Most tokens of the trust split that an adapter is scored on; 0: all."""
    guard_tokens: NotNegative = 8192
    """Most tokens of the guard split that a loss is measured on; 0: all."""
    collect_seconds: Seconds = 30.0
    """Longest wait for neighbours' updates in a round."""
    staleness_seconds: Seconds = 3600.0
    """Updates older than this take no part."""
    max_neighbours: Annotated[int, msgspec.Meta(ge=1, le=1_024)] = 16
    """Peers whose updates are fetched and merged."""
    private_clip: Amount = 0.0
    """Publish with differential privacy: shorten every update to this norm; with --private-noise. 0: off."""
    private_noise: Amount = 0.0
    """Standard deviation of the noise on a published update, in units of twice the clip."""
    private_delta: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-5
    """The chance that the promise of epsilon fails: far below one in the number of people it protects."""
    private_budget: Amount = 0.0
    """Stop publishing, and nothing else, before all updates together exceed this epsilon. 0: no limit."""
    threads: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    """Torch threads of the worker; 0: torch decides."""
    worker_memory: NotNegative = 0
    """MiB that training may take, on Linux; 0: three quarters of the machine's."""
    max_upload: NotNegative = 0
    """KiB a second for sending updates to others, all together; 0: no limit."""
    max_download: NotNegative = 0
    """KiB a second for fetching others' updates, all together; 0: no limit."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    precision: str = "auto"
    """Numbers to train in: fp32, bf16, or auto, which is bf16 where that was measured to be clearly quicker."""
    seed: Seed = 0
    """Of the local data order and dropout."""
    shares: dict[str, tuple[float, ...]] = {}
    """Declared category shares by peer id, for the `oracle` scheme in the demo; never sent to anyone."""
