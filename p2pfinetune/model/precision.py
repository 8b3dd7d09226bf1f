"""In which numbers a model is run: `fp32`, the same on every processor to rounding, or `bf16`, if that is quicker.

What loads a base says it, and everything that runs the base follows: no processor is asked behind anybody's back.
`auto` becomes one of the two once, before anything is learnt, by a rule that is all here and a function of values:

1. What was learnt so far decides, so that a run that goes on gives the bits of one that was never interrupted.
2. If the device has no units for bf16, or they are masked: fp32. `processor` asks the machine. Without units bf16 is
   emulated, and slower than fp32.
3. On CUDA: bf16, which is also how weights that are stored in 16 bits are then held.
4. On a CPU: bf16 if a step of this training was measured to be clearly quicker. `step_times` measures.

Numbers on a CPU are bf16 in the products of training steps alone; adapters are scored, guarded and compared in fp32.
So no peer need know another's precision, and it is no part of the network.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from p2pfinetune.errors import OptionError

Precision = Literal["fp32", "bf16"]
Choice = Literal["fp32", "bf16", "auto"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
CHOICES: tuple[Choice, ...] = get_args(Choice)

MARGIN = 0.8  # of the time of a step in fp32; for less than a fifth, timers are not sure enough
UNITS = frozenset({"amx_bf16", "avx512_bf16"})  # flags of /proc/cpuinfo: products of matrices in bf16 are instructions
WIDE = "AVX512", "AVX10"  # what torch.backends.cpu.get_cpu_capability() begins with where it uses such units
MASKS = "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"  # oneDNN reads both; it is what multiplies matrices of bf16
UNMASKED = "BF16", "FP16", "AMX", "AVX10"  # in names of instruction sets that hold bf16
NO_UNITS = "this processor has no units for bf16"

Times = Sequence[tuple[float, float]]
"""Seconds of a step in fp32 and of the same in bf16, taken one after the other."""


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """How it is run, and why."""

    precision: Precision
    why: str
    """A phrase for people; empty if they asked for it."""


def settled(asked: Choice, device: str, missing: str, before: Precision | None) -> PrecisionChoice | None:
    """What is known without a measurement; None: it takes one. OptionError for bf16 if there is none.

    `device` is its type, `missing` what `processor` says, `before` what the checkpoint was trained in.
    """
    if asked == "bf16" and missing and device != "cpu":  # a CPU always can, if slowly
        raise OptionError(f"no bf16 on {device}: {missing}", "choose fp32, or auto")
    if asked != "auto":
        turned = f"so far it was trained in {before}" if before not in {None, asked} else ""
        return PrecisionChoice(asked, turned or (missing if asked == "bf16" else ""))
    if missing:
        return PrecisionChoice("fp32", f"so far it was trained in bf16, but {missing}" if before == "bf16" else missing)
    if before is not None:
        return PrecisionChoice(before, "as it was trained so far")
    return PrecisionChoice("bf16", "this GPU has units for it") if device == "cuda" else None


def quicker(times: Times) -> PrecisionChoice:
    """By the median over the pairs of bf16's part of fp32's time, which one interruption does not move."""
    part = statistics.median(half / full for full, half in times)
    return PrecisionChoice(
        "bf16" if part <= MARGIN else "fp32", f"a step in bf16 takes {part:.2f} of the time of one in fp32"
    )


def missing_on_cpu(cpuinfo: str, capability: str, environment: Mapping[str, str]) -> str:
    """Why this CPU is not to multiply in bf16; empty if it has units and torch and oneDNN may use them."""
    flags = next((line.partition(":")[2] for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    if not UNITS & set(flags.split()):
        return NO_UNITS
    if not capability.startswith(WIDE):
        return f"torch uses no more than {capability} here"
    for name in MASKS:
        isa = environment.get(name, "").upper()
        if isa not in {"", "ALL", "DEFAULT"} and not any(word in isa for word in UNMASKED):
            return f"{name}={isa} masks the units for bf16"
    return ""
