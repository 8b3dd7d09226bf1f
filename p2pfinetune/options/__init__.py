"""Every option of learning, with its range, default and help. Never imports torch: the command line reads this.

The daemon's `Config`, a simulation's and what the library itself is handed are made of these sections; see `sections`
for how. To add an option, add it to the section of its kind, and it is in `config.toml`, `peerd start --help`, the
file of a simulation and the value that the library gets. An option that only one of them has stands there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from p2pfinetune.errors import OptionError
from p2pfinetune.names import Mixing, Serve, Sharing, expert_of
from p2pfinetune.options.of_text import ConversationOptions as ConversationOptions
from p2pfinetune.options.of_text import ProfileOptions as ProfileOptions
from p2pfinetune.options.pieces import GateOptions, NewcomerOptions, must_share_pieces
from p2pfinetune.options.sections import Section, check

# The upper bounds are far beyond use. They keep a slip of the finger from being a number that no file, message or
# library of ours can hold, which would be told much later and by another name.
MANY = 10**9
Positive = Annotated[int, Meta(ge=1, le=MANY)]
NotNegative = Annotated[int, Meta(ge=0, le=MANY)]
Seconds = Annotated[float, Meta(gt=0, le=MANY)]
Amount = Annotated[float, Meta(ge=0, le=MANY)]
INT64 = 2**63 - 1
Seed = Annotated[int, Meta(ge=-INT64, le=INT64)]
"""What SQLite, TOML, MessagePack and torch's generators all hold."""
MAX_RANK = 1024
MAX_SPECIALISTS = 15
NANO = "nano"
"""The embedded base model: `p2pfinetune.nano`."""
DATA_FOLDER = "../shared/data"  # raw text of the paper's settings; see docs/reproduction/settings.md
SMALL_SCALE = 1 / 70  # of the paper's 840,000 training tokens a peer: 12,000
DEFAULT_TRAINER = "adamw"
Checkpointing = Literal["auto", "on", "off"]
QuantizeChoice = Literal["auto", "none", "8bit", "4bit"]


class ModelOptions(Section):
    """What is fine-tuned, and on what."""

    model: Annotated[
        str, Meta(description="Base model: `nano` (embedded), a folder, a .gguf file, or a Hugging Face name.")
    ] = NANO
    device: Annotated[str, Meta(description="auto, cpu, cuda or mps.")] = "auto"
    precision: Annotated[
        str,
        Meta(
            description="Numbers to train in: fp32, bf16, or auto, which is bf16 where that was measured to be clearly "
            "quicker."
        ),
    ] = "auto"
    quantize: Annotated[
        QuantizeChoice,
        Meta(
            description="Bits in which the base's adapted layers are held: none (as they are stored), 8bit, or 4bit, "
            "which compute a little otherwise. auto: none, unless nothing else fits into memory. No peer needs to know."
        ),
    ] = "auto"
    checkpointing: Annotated[
        Checkpointing,
        Meta(
            description="Whether training computes each layer a second time instead of keeping what it computed: about "
            "a third slower, with a tenth of the memory for it. auto: if memory is short."
        ),
    ] = "auto"


class AdapterOptions(Section):
    """Which LoRA adapter. What is here is part of the network's identity: peers with another one never mix."""

    rank: Annotated[int, Meta(ge=1, le=MAX_RANK, description="LoRA rank; part of the network's identity.")] = 8
    alpha: Annotated[Positive, Meta(description="LoRA alpha; part of the network's identity.")] = 16
    targets: Annotated[
        tuple[str, ...], Meta(description="Module names to adapt; empty: our table for the model family.")
    ] = ()
    sharing: Annotated[
        Sharing,
        Meta(
            description="What leaves this device: both factors, a (B is kept here, as in FedSA-LoRA), b (A stays at "
            "the start, as in FFA-LoRA), alternate (B and A by turns, as in RoLoRA), sketch (both, of the components "
            "that it trains in a round, as in FSLoRA); or one of several adapters in a layer: generalist (CoMiGS), "
            "individual (FedALT), two-level (PF2LoRA). Part of the network's identity."
        ),
    ] = "both"


class DetailOptions(Section):
    """More of the adapter; the daemon leaves it at its default."""

    generalists: Annotated[
        int,
        Meta(ge=1, le=4, description="With sharing generalist: shared adapters in a layer; part of the network."),
    ] = 1
    dropout: Annotated[
        float, Meta(ge=0.0, lt=1.0, description="Of the adapter's inputs, while it trains. No peer needs to know it.")
    ] = 0.0


class HeldOptions(Section):
    """What a device holds of that adapter; no peer needs to know it."""

    own_rank: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_RANK,
            description="What this device holds and trains of the rank, if it is a weak one; with sharing sketch, "
            "what it trains at a time. 0: all of it.",
        ),
    ] = 0
    specialists: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_SPECIALISTS,
            description="With sharing generalist: adapters in each MLP layer that stay on this device, beside the "
            "shared one. A router weighs them for each token.",
        ),
    ] = 0


class SeveralOptions(Section):
    """Layers with several adapters, as a device holds them; no peer needs to know it."""

    specialist_rank: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_RANK,
            description="Rank of what stays on this device; 0: the rank, or with sharing two-level a half of it.",
        ),
    ] = 0
    mixing: Annotated[
        Mixing,
        Meta(
            description="By what several adapters of a layer are weighed: a router for each token, a learned weight "
            "for each layer, or just their sum. Sharing two-level always takes the sum."
        ),
    ] = "token"


class StepOptions(Section):
    """One optimizer step; rates after arXiv 2404.09753, and a batch for small devices."""

    batch_size: Annotated[int, Meta(ge=1, le=65_536, description="Sequences a micro-batch.")] = 8
    accumulation: Annotated[Positive, Meta(description="Micro-batches a step.")] = 1
    context: Annotated[int, Meta(ge=1, le=1_048_576, description="Tokens a sequence.")] = 256
    lr: Annotated[float, Meta(gt=0, le=MANY, description="Peak learning rate.")] = 2e-3


class DecayOptions(Section):
    """What keeps weights and steps short, as in arXiv 2404.09753; the daemon leaves it at its default."""

    weight_decay: Annotated[
        Amount, Meta(description="How much of a weight each step takes away, in learning rates.")
    ] = 1e-3
    clip: Annotated[Amount, Meta(description="Largest norm of a gradient; 0 leaves gradients as they are.")] = 1.0


class LevelOptions(Section):
    """How often routers are trained, on text that the adapters do not train on; after CoMiGS (arXiv 2409.13931)."""

    router_every: Annotated[
        Positive, Meta(description="With sharing generalist: steps of the adapters between two turns of the routers.")
    ] = 30
    router_steps: Annotated[
        NotNegative, Meta(description="With sharing generalist: steps of the routers in a turn; 0: they stay.")
    ] = 10
    router_balance: Annotated[
        Amount,
        Meta(
            description="With sharing generalist: how strongly the adapters are trained to be used alike, the shared "
            "one as much as all others together."
        ),
    ] = 0.01


class HorizonOptions(Section):
    """How long training goes on."""

    total_steps: Annotated[
        NotNegative,
        Meta(
            description="With a known number of steps: OneCycle over them, then resting. "
            "0: run for ever, constant after warm-up."
        ),
    ] = 0


class OrderOptions(Section):
    """What is drawn."""

    seed: Annotated[Seed, Meta(description="Of the local data order and dropout.")] = 0


class TrainerOptions(Section):
    """What trains. No peer needs to know it: docs/adr/0027."""

    trainer: Annotated[str, Meta(description="What turns text into steps of the own adapter.")] = DEFAULT_TRAINER
    trainer_options: Annotated[dict[str, Any], Meta(description="Options of the trainer.")] = field(
        default_factory=dict
    )


class CollaborationOptions(Section):
    """Whom to trust, how to merge, and what a merge has to be worth."""

    trust: Annotated[str, Meta(description="Trust scheme; see docs/how-to.")] = "prediction-similarity"
    trust_options: Annotated[dict[str, Any], Meta(description="Options of the trust scheme.")] = field(
        default_factory=dict
    )
    merge: Annotated[str, Meta(description="Merge rule.")] = "factor-mean"
    merge_options: Annotated[dict[str, Any], Meta(description="Options of the merge rule.")] = field(
        default_factory=dict
    )
    tolerance: Annotated[
        Amount,
        Meta(description="How far, in nats a token and in total, the guard loss may lie above the best ever reached."),
    ] = 0.05
    credit: Annotated[
        Amount,
        Meta(
            description="How much worse than the own adapter, in nats a token, a merge may measure, until that is "
            "regained."
        ),
    ] = 0.0
    """See `round.guard.verdict`."""
    max_share: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="Most that any single neighbour weighs in a merge; what is above goes to the own adapter. "
            "1: no bound.",
        ),
    ] = 0.4
    """The honest lose next to nothing by it, and 5 % of their gain at 0.3 once: docs/adr/0018. No guard, no bound."""
    serve: Annotated[
        Serve,
        Meta(
            description="What is served: one adapter, or, if it measures better, a mixture of the predictions of the "
            "personal one and up to two others that add most: as many passes for every word, and no export of it."
        ),
    ] = "adapter"
    trust_tokens: Annotated[
        NotNegative, Meta(description="Most tokens of the trust split that an adapter is scored on; 0: all.")
    ] = 4096
    guard_tokens: Annotated[
        NotNegative, Meta(description="Most tokens of the guard split that a loss is measured on; 0: all.")
    ] = 8192


class RunOptions(Section):
    """How long a simulation is, and when its peers merge; after the paper, but for a shorter run."""

    rounds: Annotated[Positive, Meta(description="Of each peer.")] = 20
    steps: Annotated[Positive, Meta(description="Optimizer steps a round.")] = 5
    warmup_rounds: Annotated[
        NotNegative,
        Meta(
            description="First rounds without merging: the paper merges for the first time after its fourth 25 steps."
        ),
    ] = 3
    merge_until: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1.0,
            description='The part of the rounds after which nobody merges any more: "FedAvg, then fine-tuning".',
        ),
    ] = 1.0


class UpdateOptions(Section):
    """What is sent."""

    codec: Annotated[str, Meta(description="How updates are written for the network.")] = "bf16"


class StudyOptions(Section):
    """What only comparisons turn off or on."""

    guarded: Annotated[
        bool, Meta(description="False: every finite merge is taken and nothing is returned to, as in the paper.")
    ] = True
    second_look: Annotated[
        bool,
        Meta(description="False: the guard sees the trust scheme's row alone, and not that of `round.second_look`."),
    ] = True
    twin: Annotated[
        bool,
        Meta(description="Also train a twin that never merges; it costs a second training, once a merge is kept."),
    ] = False
    twin_pull: Annotated[
        Amount,
        Meta(
            description="Ditto: how strongly the twin is drawn towards the personal adapter; 0: it never hears of it. "
            "Needs a twin."
        ),
    ] = 0.0


class AdapterSpec(AdapterOptions, DetailOptions, HeldOptions, SeveralOptions):
    """What kind of adapter, as the library takes it; of the network but for `dropout` and what a device holds."""

    init_seed: Annotated[Seed, Meta(description="Of the start that all peers have in common.")] = 0

    def __post_init__(self) -> None:
        check(self)
        if self.own_rank > self.rank:
            raise OptionError(
                f"the own rank {self.own_rank} is above the network's, {self.rank}",
                "what a device holds is at most what its network speaks of",
            )
        if (self.specialists or self.generalists > 1) and self.sharing != "generalist":
            raise OptionError(
                f"specialists go with sharing generalist, and this is {self.sharing}",
                "take --sharing generalist, or no --specialists",
            )

    @property
    def held_rank(self) -> int:
        """Of the adapter that this device keeps."""
        return self.rank if self.sharing == "sketch" else self.worked_rank

    @property
    def worked_rank(self) -> int:
        """Of what it trains at a time."""
        return self.own_rank or self.rank

    @property
    def experts(self) -> int:
        """Adapters in a layer that has several; 1: there is none such."""
        if self.sharing == "generalist":
            return self.generalists + self.specialists
        return 2 if self.sharing in ("individual", "two-level") else 1

    @property
    def mixes(self) -> Mixing:
        """By what they are weighed."""
        return "sum" if self.sharing == "two-level" else self.mixing

    def rank_of(self, expert: int) -> int:
        """Of one of them in this device's memory."""
        if self.shared(expert) or self.sharing == "individual":  # the rest of the world is made of others' adapters
            return self.held_rank
        return self.specialist_rank or (max(1, self.held_rank // 2) if self.sharing == "two-level" else self.held_rank)

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied with, on every device of the network."""
        return self.alpha / self.rank

    def shared(self, expert: int) -> bool:
        """Whether that adapter of a layer leaves the device."""
        return expert < self.generalists

    def shares(self, name: str) -> bool:
        """Whether that factor leaves the device, and takes part in merges."""
        if self.sharing in ("a", "b"):
            return name.endswith(".lora_A" if self.sharing == "a" else ".lora_B")
        return (expert := expert_of(name)) is not None and self.shared(expert)

    def trains(self, name: str) -> bool:
        """Whether that factor ever changes by training."""
        if self.sharing == "b":
            return name.endswith(".lora_B")
        return self.sharing != "individual" or expert_of(name) != 1

    @property
    def has_levels(self) -> bool:
        """Whether some of it is trained at a second level."""
        several = self.experts > 1
        return several and (self.sharing == "two-level" or (self.sharing == "generalist" and self.mixes != "sum"))

    def is_second(self, name: str) -> bool:
        """Whether it is trained at the second level, in turn with all others; see `training.levels`."""
        if self.sharing == "two-level":
            return expert_of(name) == 1
        return self.sharing == "generalist" and expert_of(name) is None


class TrainingOptions(StepOptions, DecayOptions, HorizonOptions, OrderOptions, LevelOptions):
    """How to train, as the library takes it."""

    who: Annotated[str, Meta(description="Trains: what peers of one seed must not share depends on it.")] = ""

    def __post_init__(self) -> None:
        check(self)


class LearnerOptions(TrainerOptions, CollaborationOptions, StudyOptions, GateOptions, NewcomerOptions, ProfileOptions):
    """Everything about learning that a user can choose, as the library takes it."""

    spec: AdapterSpec = AdapterSpec()
    training: TrainingOptions = TrainingOptions()
    max_norm: Annotated[
        Amount, Meta(description="Largest norm of a neighbour's update; 0: see `round.update.default_max_norm`.")
    ] = 0.0

    def __post_init__(self) -> None:
        check(self)
        if self.gate_steps and self.spec.experts > 1:
            must_share_pieces(self.spec.sharing)
        if self.twin_pull and not self.twin:
            raise OptionError("twin_pull is zero or positive, and needs a twin")
