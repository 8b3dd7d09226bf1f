"""What is done so that a model fits into the memory there is: the mildest that is enough, in a stated order.

    1. passes of fewer positions            same results but for rounding; a little slower
    2. checkpointing                        likewise; about a third slower, then with as many positions as fit again
    3. weights of adapted layers in 8 bits  the base computes a little otherwise
    4. ... in 4 bits                        likewise

Weights that are stored in 16 bits are held so in any case: that changes nothing. What a person said outright is never
overridden, but told. What was chosen so far stays as long as it fits, be there ever so much memory now, so that a run
that goes on gives the bits of one that was never interrupted (as with the precision, docs/adr/0015). If the sum was too
small all the same and the worker died of it, the next one takes the next measure (`lighter_than`).

If nothing is enough, the refusal says what each way out would need. Pure; torch is not imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from p2pfinetune.errors import ModelError
from p2pfinetune.model.memory import (
    GIB,
    MIB,
    POSITIONS,
    POSITIONS_ELSEWHERE,
    MemoryPlan,
    Needs,
    Quantize,
    Setting,
    needed,
)
from p2pfinetune.model.shape import Shape, shape_of

Checkpointing = Literal["auto", "on", "off"]
QuantizeChoice = Literal["auto", "none", "8bit", "4bit"]
MILDEST_FIRST: Final[tuple[Quantize, ...]] = ("none", "8bit", "4bit")


def _known(width: int, inner: int, layers: int, heads: int, keys: int, entries: int, *, is_tied: bool = True) -> Shape:
    """Of a model as Llama, or as Qwen2."""
    key = keys * width // heads
    block = ((width, width), (width, key), (width, key), (width, width), *((width, inner),) * 3)
    others = entries * width * (1 if is_tied else 2) + (2 * layers + 1) * width
    return Shape(
        family="llama", layers=layers, width=width, heads=heads, query=width, key=key, inner=inner, activation="silu",
        is_gated=True, is_fused=False, is_eager=False, vocabulary=entries, context=0, adapted=block * layers,
        other_parameters=others, bytes_each=2,
    )  # fmt: skip


KNOWN: Final[Mapping[str, Shape]] = MappingProxyType(
    {
        "meta-llama/Llama-3.1-8B-Instruct": _known(4096, 14_336, 32, 32, 8, 128_256, is_tied=False),
        "Qwen/Qwen2.5-3B-Instruct": _known(2048, 11_008, 36, 16, 2, 151_936),
        "Qwen/Qwen2.5-1.5B-Instruct": _known(1536, 8960, 28, 12, 2, 151_936),
        "Qwen/Qwen2.5-0.5B-Instruct": _known(896, 4864, 24, 14, 2, 151_936),
        "HuggingFaceTB/SmolLM2-360M-Instruct": _known(960, 2560, 32, 15, 5, 49_152),
        "HuggingFaceTB/SmolLM2-135M-Instruct": _known(576, 1536, 30, 9, 3, 49_152),
    }
)
"""Models to propose if another is too large, largest first; all are stored in bf16."""

SHORTER: Final = (128, 64)  # contexts that are proposed
FEWER: Final = (4, 1)  # neighbours likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedOfMemory:
    """What a person said; `auto` leaves it to us."""

    checkpointing: Checkpointing = "auto"
    quantize: QuantizeChoice = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How it is run."""

    plan: MemoryPlan
    needs: Needs | None
    """None: the model's configuration does not tell."""
    available: int
    """Bytes; 0 if the system does not say."""
    why: str = ""
    """A phrase for people: what was done so that it fits; empty if nothing was."""
    is_last: bool = False
    """Whether there is no stronger measure left that may be taken."""

    @property
    def said(self) -> str:
        """The sum in a sentence."""
        if self.needs is None:
            return "how much memory it needs cannot be told from its config.json"
        return f"needs {sum_of(self.needs)}" if not self.available else f"needs {sum_of(self.needs, self.available)}"


def fitting(
    shape: Shape | None,
    setting: Setting,
    asked: AskedOfMemory,
    available: int,
    *,
    before: MemoryPlan | None = None,
    lighter_than: MemoryPlan | None = None,
) -> Fit:
    """The first plan of the ladder that fits. ModelError, with the ways out, if none does.

    `before`: by which it was trained so far; kept as long as it fits. `lighter_than`: a plan that a worker died of.
    With `available` 0 the memory is not known, and any plan fits.
    """
    rungs = list(ladder(setting, asked))
    needs = [None if shape is None else needed(shape, setting, rung) for rung in rungs]
    room = [i for i, one in enumerate(needs) if one is None or not available or one.total <= available]
    if lighter_than in rungs:
        died = rungs.index(lighter_than)
        left = [i for i in room or range(len(rungs)) if _is_lighter(needs, i, died)]
        place = _kept(rungs, left, before) if left else died
    elif room:
        place = _kept(rungs, room, before)
    else:
        assert shape is not None
        raise refusal(shape, setting, asked, available)
    is_last = not any(_is_lighter(needs, i, place) for i in range(len(rungs)))
    why = _why(rungs[place], rungs[0], before, is_after_death=lighter_than is not None)
    return Fit(plan=rungs[place], needs=needs[place], available=available, why=why, is_last=is_last)


def ladder(setting: Setting, asked: AskedOfMemory) -> Iterator[MemoryPlan]:
    """Every plan that may be taken, mildest first."""
    for way in [way for way in MILDEST_FIRST if asked.quantize in ("auto", way)]:
        for checkpointing in (False, True):
            if asked.checkpointing == ("off" if checkpointing else "on"):
                continue
            for positions in _positions(setting):
                yield MemoryPlan(positions=positions, checkpointing=checkpointing, quantize=way)


def least(shape: Shape, setting: Setting, asked: AskedOfMemory) -> Needs:
    """With every measure that may be taken."""
    return min((needed(shape, setting, rung) for rung in ladder(setting, asked)), key=lambda needs: needs.total)


def refusal(shape: Shape, setting: Setting, asked: AskedOfMemory, available: int) -> ModelError:
    """What it would need, and every way out with what that would need."""
    found = least(shape, setting, asked)
    taken = " even in passes of one sequence" + (", with checkpointing" if asked.checkpointing != "off" else "")
    return ModelError(
        f"this model does not fit: it needs {sum_of(found, available)},{taken}",
        "; ".join(f"{option}{_needing(needs)}" for option, needs in remedies(shape, setting, asked, available)),
    )


def remedies(shape: Shape, setting: Setting, asked: AskedOfMemory, available: int) -> list[tuple[str, Needs | None]]:
    """What a person can do, mildest first, each with what the model would then need; only what would be enough."""
    tried: list[tuple[str, Setting, AskedOfMemory]] = []
    if asked.checkpointing == "off":
        tried.append(("--checkpointing auto", setting, replace(asked, checkpointing="auto")))
    tried += [(f"--context {n}", replace(setting, context=n), asked) for n in SHORTER if n < setting.context]
    tried += [(f"--max-neighbours {n}", replace(setting, neighbours=n), asked) for n in FEWER if n < setting.neighbours]
    if asked.quantize == "none":
        tried += [(f"--quantize {way}", setting, replace(asked, quantize=way)) for way in MILDEST_FIRST[1:]]
    if setting.has_gradients:
        tried.append(("--trainer mezo", replace(setting, has_gradients=False, moments=0), asked))
    found = [(told, least(shape, other, others)) for told, other, others in tried]
    enough: list[tuple[str, Needs | None]] = [(told, needs) for told, needs in found if needs.total <= available]
    smaller = next(
        ((n, least(s, setting, AskedOfMemory())) for n, s in KNOWN.items() if _fits(s, setting, available)), None
    )
    if smaller is not None and KNOWN[smaller[0]].parameters < shape.parameters:
        enough.append((f"a smaller model: --model {smaller[0]}", smaller[1]))
    needs_mib = -(-least(shape, setting, asked).total // MIB)
    return [*enough, (f"--worker-memory {needs_mib}, if this machine has so much to spare", None)]


def memory_for(
    folder: Path, *, context: int = 256, batch: int = 8, quantize: Quantize = "none", device: str = "cpu"
) -> Needs | None:
    """What training the model in a folder takes with nothing done about it; None if its config.json does not tell."""
    shape = shape_of(folder)
    setting = Setting(device=device, context=context, sequences=batch)
    return None if shape is None else needed(shape, setting, MemoryPlan(quantize=quantize))


def least_for(folder: Path, *, context: int = 256, device: str = "cpu") -> Needs | None:
    """The same with every measure that changes no result."""
    shape = shape_of(folder)
    return (
        None if shape is None else least(shape, Setting(device=device, context=context), AskedOfMemory(quantize="none"))
    )


def sum_of(needs: Needs, available: int = 0) -> str:
    """`2.1 GiB of 6.0: weights 1.0, activations 0.6, ...`, parts below a twentieth of a GiB together."""
    large = {name: size for name, size in needs.parts.items() if size >= 0.05 * GIB}
    parts = [f"{name} {size / GIB:.1f}" for name, size in large.items()]
    if others := needs.total - sum(large.values()):
        parts.append(f"others {others / GIB:.1f}")
    of = f" of {available / GIB:.1f}" if available else ""
    return f"{needs.total / GIB:.1f} GiB{of} ({', '.join(parts)})"


def _needing(needs: Needs | None) -> str:
    return "" if needs is None else f" (needs {needs.total / GIB:.1f} GiB)"


def _fits(shape: Shape, setting: Setting, available: int) -> bool:
    return least(shape, setting, AskedOfMemory(quantize="none")).total <= available


def _kept(rungs: Sequence[MemoryPlan], left: Sequence[int], before: MemoryPlan | None) -> int:
    """What was trained by so far if it is among what is left, else the mildest."""
    return next((i for i in left if rungs[i] == before), left[0])


def _is_lighter(needs: Sequence[Needs | None], place: int, than: int) -> bool:
    """Further down, and less if that can be computed."""
    one, other = needs[place], needs[than]
    return place > than and (one is None or other is None or one.is_less_than(other))


def _positions(setting: Setting) -> list[int]:
    """Of a pass: the device's own, then halves down to one sequence."""
    most = POSITIONS.get(setting.device, POSITIONS_ELSEWHERE)
    most = min(most, setting.context * setting.sequences)
    found = [0]
    while (most := most // 2) >= setting.context:
        found.append(most)
    return found


def _why(plan: MemoryPlan, mildest: MemoryPlan, before: MemoryPlan | None, *, is_after_death: bool) -> str:
    done = []
    if plan.positions:
        done.append(f"passes of {plan.positions} positions")
    if plan.checkpointing and not mildest.checkpointing:
        done.append("checkpointing")
    if plan.quantize != mildest.quantize:
        done.append(f"weights in {plan.quantize.replace('bit', ' bits')}")
    if not done:
        return ""
    since = (
        "since a worker ran out of memory" if is_after_death else "as so far" if plan == before else "so that it fits"
    )
    return f"{', '.join(done)}, {since}"
