"""What a simulation is told, as one frozen value, read from TOML. Every option is named, bounded and remembered.

The value is all of it: two runs of one config are one run, so a folder that holds another config is refused and not
mixed with. Options of learning are those of the daemon, from `options`; here is what only a simulation has. A digest
over the part that decides the text lets simulations of a comparison share one reading of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from p2pfinetune.errors import OptionError
from p2pfinetune.model.precision import Choice
from p2pfinetune.names import SEVERAL, PeerId
from p2pfinetune.options import (
    DATA_FOLDER,
    INT64,
    MAX_SPECIALISTS,
    SMALL_SCALE,
    AdapterOptions,
    AdapterSpec,
    CollaborationOptions,
    ConversationOptions,
    DecayOptions,
    DetailOptions,
    LearnerOptions,
    LevelOptions,
    ModelOptions,
    NotNegative,
    Positive,
    RunOptions,
    SeveralOptions,
    StepOptions,
    StudyOptions,
    TrainerOptions,
    TrainingOptions,
    UpdateOptions,
    sections,
)
from p2pfinetune.options.pieces import GateOptions, NewcomerOptions
from p2pfinetune.simulation.hostile.attacks import Attack
from p2pfinetune.simulation.timetable import Churn, Timing
from p2pfinetune.simulation.topology import Topology
from p2pfinetune.training.batches import derived_seed

MAX_CONFIG = 1 << 20  # bytes of a file

Dealt = TypeVar("Dealt")


class PeerText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A peer with text of its own."""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="What figures and folders call it.")]
    data: Annotated[tuple[str, ...], Meta(description="Files and folders, relative to where the program is started.")]
    shares: Annotated[
        tuple[float, ...],
        Meta(
            description="The part of each category, for theoretical weights; either every peer declares them or none."
        ),
    ] = ()


class SettingText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the paper's settings."""

    name: Annotated[Literal["ag-news", "languages", "code-wiki"], Meta(description="Which.")]
    mix: Annotated[Literal["specific", "mixed"], Meta(description="One kind of text a peer, or two.")] = "specific"
    data: Annotated[str, Meta(description="The folder with the raw text; see docs/reproduction/settings.md.")] = (
        DATA_FOLDER
    )
    scale: Annotated[
        float, Meta(gt=0.0, le=1.0, description="Of the paper's 840,000 training tokens a peer; 1/70 is 12,000.")
    ] = SMALL_SCALE
    test_tokens: Annotated[
        NotNegative,
        Meta(
            description="Of each peer's test split, so that a small run can still tell small differences; 0: "
            "what the scale gives."
        ),
    ] = 0
    peers: Annotated[
        tuple[str, ...], Meta(description="Only these, in this order; their text is what it is among all.")
    ] = ()


class Privacy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What peers publish is clipped and noised, as `peerd start --private-clip --private-noise` does; see `privacy`."""

    clip: Annotated[float, Meta(ge=0.0, description="Norm of an update; 0: updates go out as they are.")] = 0.0
    noise: Annotated[
        float, Meta(ge=0.0, description="Standard deviation in units of the sensitivity, which is twice the clip.")
    ] = 0.0

    def __post_init__(self) -> None:
        if (self.clip > 0.0) != (self.noise > 0.0):
            raise OptionError("private publishing needs both a clip and a noise", "give both, or neither")


class AdapterChoice(AdapterOptions, DetailOptions, SeveralOptions):
    """The adapter."""

    own_ranks: Annotated[
        tuple[Positive, ...], Meta(description="What peers hold of the rank, dealt to them in turn; empty: all of it.")
    ] = ()
    own_specialists: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=MAX_SPECIALISTS)], ...],
        Meta(description="With sharing generalist: adapters that stay at their peers, dealt in turn; empty: none."),
    ] = ()
    shared_start: Annotated[bool, Meta(description="False: every peer draws its own A, as the paper's code does.")] = (
        True
    )

    def __post_init__(self) -> None:
        if any(own > self.rank for own in self.own_ranks):
            raise OptionError(f"an own rank is above the network's, {self.rank}", "raise the rank")
        if self.own_specialists and self.sharing != "generalist":
            raise OptionError(f"specialists go with sharing generalist, and this is {self.sharing}", "leave them out")
        if self.sharing in SEVERAL and not self.shared_start:
            raise OptionError(f"with sharing {self.sharing}, what is shared has one start for all", "share it")
        if self.sharing == "b" and not self.shared_start:
            raise OptionError("with sharing b, A stays where it starts: it has to be one start for all", "share it")


class TrainingChoice(StepOptions, DecayOptions, LevelOptions):
    """Own training; shorter sequences than the daemon's, so that many peers fit on one machine."""

    context: Annotated[Positive, Meta(description="Tokens a sequence.")] = 64


class SimulationConfig(
    ConversationOptions,
    ModelOptions,
    TrainerOptions,
    RunOptions,
    CollaborationOptions,
    UpdateOptions,
    StudyOptions,
    GateOptions,
    NewcomerOptions,
):
    """Everything that a simulation depends on: the same config gives the same figures on the same machine."""

    device: Annotated[str, Meta(description="cpu, cuda, mps or auto.")] = "cpu"
    precision: Annotated[
        Choice,
        Meta(
            description="In which numbers peers train: fp32, bf16, or auto, which becomes one of them when a run "
            "begins."
        ),
    ] = "fp32"
    setting: Annotated[
        SettingText | None, Meta(description="Text of one of the paper's settings; or else `peers`.")
    ] = None
    peers: Annotated[tuple[PeerText, ...], Meta(description="Peers with text of their own.")] = ()
    adapter: AdapterChoice = AdapterChoice()
    training: TrainingChoice = TrainingChoice()
    trainers: Annotated[
        tuple[TrainerOptions, ...],
        Meta(description="What peers train by, with its options, dealt to them in turn; empty: all by `trainer`."),
    ] = ()
    newcomers: Annotated[
        bool,
        Meta(
            description="After the last round every peer begins anew: its first adapter is assembled of what all "
            "others ended with, who have never heard of it, and it trains as long again, alone."
        ),
    ] = False
    public_reference: Annotated[
        bool,
        Meta(
            description="Prediction similarity on the setting's public text, as in the paper; false: on each peer's "
            "own trust split."
        ),
    ] = True
    named: Annotated[
        bool, Meta(description="True: every peer's name is its profile, in front of all of its text (`--profile`).")
    ] = False
    topology: Topology = Topology()
    timing: Timing = Timing()
    churn: Churn = Churn()
    attack: Annotated[Attack, Meta(description="Hostile peers beside those that the text is for.")] = Attack()
    privacy: Privacy = Privacy()
    seed: Annotated[int, Meta(ge=0, le=INT64, description="Of everything that is drawn.")] = 0

    def __post_init__(self) -> None:
        if (self.setting is None) == (not self.peers):
            raise OptionError("a simulation needs text: either a [setting] or [[peers]], and not both")
        names = [peer.name for peer in self.peers]
        if len(set(names)) < len(names):
            raise OptionError("two peers have the same name")
        if self.attack.attackers and self.timing.kind != "lock-step":
            raise OptionError("attackers see what all others say before they speak", 'choose timing kind "lock-step"')
        if self.newcomers and not (self.gate_steps and self.last_merging_round == 0):
            raise OptionError(
                "newcomers assemble what sharers trained alone, and find it by gates",
                "give merge_until = 0 and gate_steps above 0",
            )
        if self.newcomers and self.attack.attackers:
            raise OptionError("there are no attackers among sharers and newcomers", "leave out one of the two")
        if len({len(peer.shares) for peer in self.peers}) > 1:
            raise OptionError("either every peer declares its shares, over the same categories, or none does")

    @property
    def last_merging_round(self) -> int:
        """No peer merges in a later round."""
        return round(self.merge_until * self.rounds)

    def merges_in(self, number: int) -> bool:
        """Whether peers merge in their round of that number."""
        return self.warmup_rounds < number <= self.last_merging_round

    def spec(self, place: int = 0) -> AdapterSpec:
        """The adapter of the peer at that place of the population."""
        own_rank, specialists = (
            _dealt(dealt, place, 0) for dealt in (self.adapter.own_ranks, self.adapter.own_specialists)
        )
        return sections.of(AdapterSpec, self.adapter, own_rank=own_rank, specialists=specialists)

    def learner_options(self, peer: PeerId, place: int = 0) -> LearnerOptions:
        """Options of one peer, which differ in what was dealt and in the seed of its training."""
        seed = derived_seed("training", self.seed, peer)
        training = sections.of(TrainingOptions, self.training, total_steps=self.rounds * self.steps, seed=seed)
        by: SimulationConfig | TrainerOptions = _dealt(self.trainers, place, self)
        trainer = sections.of(TrainerOptions, by)
        return sections.of(
            LearnerOptions, self, spec=self.spec(place), training=training,
            trainer=trainer.trainer, trainer_options=trainer.trainer_options, profile=peer if self.named else "",
        )  # fmt: skip

    def text_digest(self) -> str:
        """Equal for configs whose populations are equal."""
        meaning = msgspec.json.encode((self.model, self.setting, self.peers, self.seed), order="deterministic")
        return hashlib.sha256(meaning).hexdigest()[:32]


def _dealt(dealt: Sequence[Dealt], place: int, otherwise: Dealt) -> Dealt:
    return dealt[place % len(dealt)] if dealt else otherwise


def load_config(path: Path) -> SimulationConfig:
    """Raises OptionError naming the file, the field and the cause."""
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise OptionError(f"{path} is larger than a configuration can be")
        return msgspec.toml.decode(path.read_bytes(), type=SimulationConfig)
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror}", "give the path of a TOML file") from error
    except msgspec.DecodeError as error:
        raise OptionError(f"{path}: {error}", "docs/how-to/simulate.md lists every option") from error


def dump_config(config: SimulationConfig) -> str:
    """TOML that `load_config` reads back to an equal value."""
    import tomli_w

    return tomli_w.dumps(_without_none(msgspec.to_builtins(config)))


def _without_none(value: Any) -> Any:
    """TOML has no null: what is None is the default and left out."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value
