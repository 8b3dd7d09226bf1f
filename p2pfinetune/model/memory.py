"""How much memory a peer takes with a model: a sum whose parts can be named, before anything is loaded.

    always      libraries, weights as they are held, the adapter with all that is kept of it
    and, at a time, the largest of
    loading     of a base in fewer bits, one layer in fp32 on its way to codes
    training    activations of one pass, what a step makes and drops (gradients, rows of weights and moments), a chunk
                of logits; without gradients, a pass as of merging and some rows of weights
    merging     neighbours' adapters, activations of one pass without a gradient, reference logits
    speaking    keys and values of what was said, logits of the prompt

Activations are what autograd keeps for the backward pass. They follow from widths alone, so they are counted here
tensor by tensor for a block as Llama's, the same sum times a factor for the blocks of other families; factors were
found by counting kept tensors (`tests/p2pfinetune/test_memory.py` counts again). Per position and layer of a block
with width h, queries q, keys and values k each, and an inner width m:

    norm before attention, its output          2 h     the input of queries, keys and values
    queries, keys, values, what attention gave 2 q + 2 k, and one number a head (flash attention keeps no matrix of all
                                               pairs of positions; attention that does is counted so)
    norm before the feed-forward, its output   2 h
    gate, up, silu of the gate, their product  4 m     5 m of a GELU that is spelled out (GPT-2), 2 m of any other

With checkpointing (Chen et al. 2016, arXiv 1604.06174) only each layer's input is kept, h, and one layer's activations
at a time. A pass holds at most `MemoryPlan.positions`, however long a step is: the rest is added up.

Constants that no formula gives (libraries, copies of an adapter) were measured by `benchmarks/memory.py`, Linux,
torch 2.13 for CPUs. A twentieth is added for what they miss. Sums are meant to lie between the measured peak and a
tenth above it, and of models so small that libraries are most of it up to a half above (docs/performance.md has both,
and where that did not hold); what a model does that its configuration does not tell is not counted.

All sizes are in bytes unless they are said to be numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from p2pfinetune.model.precision import Precision
from p2pfinetune.model.shape import Shape

Quantize = Literal["none", "8bit", "4bit"]
Stage = Literal["loading", "training", "merging", "speaking"]

MIB: Final = 2**20
GIB: Final = 2**30
FP32: Final = 4
LIBRARIES: Final = {"cpu": 600 * MIB, "cuda": 500 * MIB, "mps": 300 * MIB}
"""torch, transformers and peft with what they hold after the first pass; on an accelerator, its own libraries there."""
POSITIONS: Final = {"cpu": 2048}  # of a pass, as in `batched`
POSITIONS_ELSEWHERE: Final = 1 << 15
BYTES_OF: Final[Mapping[Quantize, float]] = MappingProxyType({"8bit": 1.03, "4bit": 0.53})
"""Of a weight of an adapted layer, with scales; embeddings and output layer stay as they are stored."""
SPARE: Final = 0.05  # of the sum, for what is not counted and for what an allocator cannot use again
QUANTISING: Final = 24  # bytes of a weight
KEPT: Final = 7
"""Copies of the adapter besides its moments: start, live factors, trainer's, own, personal, best, one to be written."""
KEPT_OF_TWIN: Final = 3
"""Its weights, its best, one to be written."""
ROWS: Final = 2  # weights and gradients, in the order in which steps are taken; moments likewise
ROWS_OF_LOOKS: Final = 8  # without gradients: weights at either side, signs, and places in 64 bits on their way
OF_A_NEIGHBOUR: Final = 2
"""Copies of each neighbour's: its adapter, and how far it moved, then its mixture with mine (`round.second_look`)."""
REFERENCE_LOGITS: Final = 1 << 25  # numbers, as in `round.context`
REFERENCE_COPIES: Final = 2.5  # mine as probabilities, a neighbour's, and half of them on the way
REFERENCE_POSITIONS: Final = 512
CHUNK_LOGITS: Final = {"cpu": 1 << 20}  # numbers, as in `batched.output`
CHUNK_LOGITS_ELSEWHERE: Final = 1 << 26
CHUNK_COPIES: Final = 4
SPOKEN: Final = 1024  # tokens of a conversation that is counted on
FACTOR: Final[Mapping[str, float]] = MappingProxyType({
    "llama": 1.0, "mistral": 1.0, "qwen2": 1.0, "qwen3": 1.1, "gemma": 1.0, "gemma2": 1.2, "gemma3_text": 1.3,
    "gemma3": 1.3, "phi3": 1.12, "gpt2": 1.22, "gpt_neox": 1.15, "opt": 1.0,
})  # fmt: skip
"""Of activations, by family: counted over the sum above."""
UNKNOWN_FACTOR: Final = 1.3
SPELLED_OUT: Final = frozenset({"gelu_new", "gelu_fast", "quick_gelu"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is trained, and how, as far as memory is concerned."""

    device: str = "cpu"
    """Its type."""
    precision: Precision = "fp32"
    context: int = 256
    sequences: int = 8
    """Of a step, accumulation included."""
    rank: int = 8
    """That this device holds."""
    moments: int = 2
    """Numbers that the trainer gathers of each of the adapter's."""
    has_gradients: bool = True
    """False: it trains by forward passes, and keeps nothing of them."""
    neighbours: int = 16
    """Whose updates are held at once, at most."""
    has_twin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """What of it can be chosen so that it fits. The first two change no result but by rounding."""

    positions: int = 0
    """Of a pass; 0: the device's own."""
    checkpointing: bool = False
    quantize: Quantize = "none"


MILDEST: Final = MemoryPlan()


@dataclass(frozen=True, slots=True)
class Needs:
    """The highest that is needed at any time: parts by their words for people, largest first."""

    parts: Mapping[str, int]
    stage: Stage
    stages: Mapping[Stage, int]
    """What each stage takes by itself, beside what is always there."""

    def is_less_than(self, other: Needs) -> bool:
        """In one stage at least, and in none more."""
        pairs = [(self.total - self.stages[self.stage], other.total - other.stages[other.stage])]
        pairs += [(size, other.stages[stage]) for stage, size in self.stages.items()]
        return all(mine <= theirs for mine, theirs in pairs) and any(mine < theirs for mine, theirs in pairs)

    @property
    def total(self) -> int:
        """All parts."""
        return sum(self.parts.values())


def needed(shape: Shape, setting: Setting, plan: MemoryPlan) -> Needs:
    """The sum of what is always there and of the stage that takes most."""
    always = {
        "libraries": LIBRARIES.get(setting.device, LIBRARIES["cpu"]),
        "weights": weights(shape, plan.quantize),
        "adapter": adapters(shape, setting),
    }
    stages: dict[Stage, dict[str, int]] = {
        "loading": loading(shape, plan),
        "training": training(shape, setting, plan),
        "merging": merging(shape, setting, plan),
        "speaking": speaking(shape),
    }
    sums = {name: sum(parts.values()) for name, parts in stages.items()}
    stage = max(sums, key=sums.__getitem__)
    parts = {**always, **stages[stage]}
    parts["spare"] = int(SPARE * sum(parts.values()))
    return Needs(dict(sorted(parts.items(), key=lambda part: -part[1])), stage, sums)


def weights(shape: Shape, quantize: Quantize = "none") -> int:
    """As they are stored, or the adapted layers quantised."""
    each = BYTES_OF.get(quantize, shape.bytes_each)
    return int(shape.adapted_parameters * each + shape.other_parameters * shape.bytes_each)


def loading(shape: Shape, plan: MemoryPlan) -> dict[str, int]:
    """A layer's weights on their way to codes; the stored file is mapped meanwhile, and its pages can be had back."""
    largest = max(rows * columns for rows, columns in shape.adapted)
    return {"quantising": 0 if plan.quantize == "none" else QUANTISING * largest}


def adapters(shape: Shape, setting: Setting) -> int:
    """What is held of the own adapter, and of the twin's, from round to round."""
    twin = KEPT_OF_TWIN + setting.moments if setting.has_twin else 0
    return FP32 * shape.of_adapter(setting.rank) * (KEPT + setting.moments + twin)


def training(shape: Shape, setting: Setting, plan: MemoryPlan) -> dict[str, int]:
    """Of one pass."""
    positions = positions_of(setting, plan)
    if not setting.has_gradients:
        return looking(shape, setting, plan)
    layer = activations(shape, setting, plan)
    kept = FP32 * shape.width * shape.layers + layer if plan.checkpointing else layer * shape.layers
    rows = (ROWS + setting.moments) * (2 if setting.has_twin else 1)
    chunk = max(CHUNK_LOGITS.get(setting.device, CHUNK_LOGITS_ELSEWHERE), shape.vocabulary)
    return {
        "activations": int(positions * kept + _cast(shape, setting, plan)),
        "steps": FP32 * (positions * (4 * shape.inner + 6 * shape.width) + rows * shape.of_adapter(setting.rank)),
        "logits": FP32 * CHUNK_COPIES * min(chunk, positions * shape.vocabulary),
    }


def looking(shape: Shape, setting: Setting, plan: MemoryPlan) -> dict[str, int]:
    """Training without gradients: a pass as of measuring, of two rows of weights, and the step on the processor."""
    positions = positions_of(setting, plan)
    chunk = max(CHUNK_LOGITS.get(setting.device, CHUNK_LOGITS_ELSEWHERE), shape.vocabulary)
    return {
        "looks": int(FP32 * positions * (4 * shape.inner + 4 * shape.width) + _cast(shape, setting, plan)),
        "steps": FP32 * ROWS_OF_LOOKS * shape.of_adapter(setting.rank),
        "logits": FP32 * CHUNK_COPIES * min(chunk, positions * shape.vocabulary),
    }


def activations(shape: Shape, setting: Setting, plan: MemoryPlan) -> float:
    """Of one position of one layer."""
    at_once = min(setting.context, positions_of(setting, plan))
    pairs = 2 * shape.heads * at_once if shape.is_eager else 0
    inner = _inner_times(shape) * shape.inner
    within = 2 * shape.query + 2 * shape.key + inner
    if setting.precision == "bf16":
        inputs = (1 if shape.is_fused else 3) + (2 if shape.is_gated else 1)  # each layer casts what it is given
        found = FP32 * (2 * shape.width + shape.heads + pairs) + 2 * (inputs * shape.width + within)
    else:
        found = FP32 * (4 * shape.width + within + shape.heads + pairs)
    return FACTOR.get(shape.family, UNKNOWN_FACTOR) * found


def _inner_times(shape: Shape) -> int:
    if shape.is_gated:
        return 4
    return 5 if shape.activation in SPELLED_OUT else 2


def _cast(shape: Shape, setting: Setting, plan: MemoryPlan) -> int:
    """Weights as a product takes them, if they are held otherwise: one is made at a time, as one before it goes."""
    each = 2 if setting.precision == "bf16" else 4
    if shape.bytes_each == each and plan.quantize == "none":
        return 0
    return each * 2 * max(rows * columns for rows, columns in shape.adapted)


def merging(shape: Shape, setting: Setting, plan: MemoryPlan) -> dict[str, int]:
    """Every neighbour's adapter is at hand, one after the other is run."""
    positions = positions_of(setting, plan, is_training=False)
    largest = max(rows * columns for rows, columns in shape.adapted)
    reference = min(REFERENCE_LOGITS, REFERENCE_POSITIONS * shape.vocabulary)
    return {
        "neighbours": FP32 * OF_A_NEIGHBOUR * setting.neighbours * shape.of_adapter(setting.rank),
        "measuring": FP32 * (positions * (4 * shape.inner + 4 * shape.width) + 2 * largest),
        "logits": int(FP32 * REFERENCE_COPIES * reference),
    }


def speaking(shape: Shape) -> dict[str, int]:
    """One conversation."""
    length = min(SPOKEN, shape.context or SPOKEN)
    return {
        "conversation": FP32 * length * (2 * shape.key * shape.layers + 4 * shape.inner + 4 * shape.width),
        "logits": 2 * FP32 * shape.vocabulary,
    }


def positions_of(setting: Setting, plan: MemoryPlan, *, is_training: bool = True) -> int:
    """Of one pass: no more than a step has, and one sequence at the least."""
    most = plan.positions or POSITIONS.get(setting.device, POSITIONS_ELSEWHERE)
    fewest = setting.context
    if not is_training:
        return max(fewest, most)
    return min(max(fewest, most // fewest * fewest), setting.context * setting.sequences)
