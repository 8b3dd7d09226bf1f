"""What `auto` becomes: a rule over values, and a measurement that changes nothing and looks at no clock of its own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import OptionError
from p2pfinetune.model import processor
from p2pfinetune.model.adapter import attach
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.model.precision import NO_UNITS, PrecisionChoice, Times, missing_on_cpu, quicker, settled
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.training.gradient_trainer import GradientTrainer
from p2pfinetune.training.step_times import BUDGET_SECONDS, PAIRS, step_times
from p2pfinetune.training.trainers.adamw import AdamW

SPEC = AdapterSpec(rank=2, alpha=4)
OPTIONS = TrainingOptions(batch_size=4, accumulation=3, context=12, lr=3e-3, total_steps=2)
AMX = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile\n\nprocessor\t: 1\n"


def split(seed: int = 0, length: int = 60, vocabulary: int = 320) -> TokenSplit:
    dice = np.random.default_rng(seed)
    return TokenSplit.of([dice.integers(1, vocabulary, length).astype(np.uint16) for _ in range(4)])


@pytest.mark.parametrize(
    ("asked", "device", "missing", "before", "precision", "why"),
    [
        ("fp32", "cpu", "", None, "fp32", ""),
        ("fp32", "cuda", "", "bf16", "fp32", "so far it was trained in bf16"),
        ("bf16", "cpu", "", "bf16", "bf16", ""),
        ("bf16", "cpu", NO_UNITS, None, "bf16", NO_UNITS),
        ("bf16", "cpu", "", "fp32", "bf16", "so far it was trained in fp32"),
        ("auto", "cpu", NO_UNITS, None, "fp32", NO_UNITS),
        ("auto", "cpu", NO_UNITS, "fp32", "fp32", NO_UNITS),
        ("auto", "cpu", NO_UNITS, "bf16", "fp32", f"so far it was trained in bf16, but {NO_UNITS}"),
        ("auto", "cpu", "", "bf16", "bf16", "as it was trained so far"),
        ("auto", "cpu", "", "fp32", "fp32", "as it was trained so far"),
        ("auto", "cuda", "", None, "bf16", "this GPU has units for it"),
        ("auto", "mps", "never tried", None, "fp32", "never tried"),
    ],
)
def test_what_is_known_beforehand_decides(
    asked: Any, device: str, missing: str, before: Any, precision: Any, why: str
) -> None:
    assert settled(asked, device, missing, before) == PrecisionChoice(precision, why)


def test_on_a_cpu_with_units_and_nothing_learnt_a_measurement_decides() -> None:
    assert settled("auto", "cpu", "", None) is None


@pytest.mark.parametrize("device", ["mps", "cuda"])
def test_bf16_where_there_is_none_is_refused_with_what_to_choose(device: str) -> None:
    with pytest.raises(OptionError, match=f"no bf16 on {device}: a reason") as caught:
        settled("bf16", device, "a reason", None)
    assert "fp32" in caught.value.hint


@pytest.mark.parametrize(
    ("times", "precision", "part"),
    [
        ([(1.0, 0.5)], "bf16", "0.50"),
        ([(1.0, 0.8)], "bf16", "0.80"),
        ([(1.0, 0.81)], "fp32", "0.81"),
        ([(1.0, 1.3)], "fp32", "1.30"),
        ([(1.0, 0.6), (9.0, 0.6), (1.0, 0.6), (1.0, 20.0), (1.0, 0.6)], "bf16", "0.60"),
        ([(1.0, 0.9), (90.0, 0.9), (1.0, 0.9)], "fp32", "0.90"),
    ],
)
def test_bf16_is_chosen_where_most_pairs_were_clearly_quicker_in_it(times: Times, precision: str, part: str) -> None:
    chosen = quicker(times)

    assert chosen.precision == precision
    assert f" {part} of the time" in chosen.why


@pytest.mark.parametrize(
    ("cpuinfo", "capability", "environment", "found"),
    [
        (AMX, "AVX512", {}, ""),
        (AMX, "AVX512", {"ONEDNN_MAX_CPU_ISA": "ALL"}, ""),
        (AMX, "AVX512", {"ONEDNN_MAX_CPU_ISA": "avx512_core_bf16"}, ""),
        (AMX, "AVX512", {"ONEDNN_MAX_CPU_ISA": ""}, ""),
        (AMX.replace("amx_bf16", ""), "AVX512", {}, ""),
        (AMX.replace("amx_bf16", "").replace("avx512_bf16", ""), "AVX512", {}, NO_UNITS),
        ("", "AVX512", {}, NO_UNITS),
        ("flags", "AVX512", {}, NO_UNITS),
        (AMX, "DEFAULT", {}, "torch uses no more than DEFAULT here"),
        (AMX, "AVX2", {}, "torch uses no more than AVX2 here"),
        (AMX, "AVX512", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "ONEDNN_MAX_CPU_ISA=AVX2 masks the units for bf16"),
        (AMX, "AVX512", {"DNNL_MAX_CPU_ISA": "avx512_core"}, "DNNL_MAX_CPU_ISA=AVX512_CORE masks the units for bf16"),
    ],
)
def test_units_count_where_the_processor_has_them_and_nobody_masks_them(
    cpuinfo: str, capability: str, environment: dict[str, str], found: str
) -> None:
    assert missing_on_cpu(cpuinfo, capability, environment) == found


def test_a_machine_that_does_not_say_what_it_has_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")

    assert processor.missing(torch.device("cpu")) == NO_UNITS
    assert "mps" in processor.missing(torch.device("mps"))


class Clock:
    """So many seconds pass from look to look."""

    def __init__(self, *steps: float) -> None:
        self.now, self._steps = 0.0, self._forever(steps)

    @staticmethod
    def _forever(steps: tuple[float, ...]) -> Iterator[float]:
        yield from steps
        while True:
            yield steps[-1]

    def __call__(self) -> float:
        self.now += next(self._steps)
        return self.now


def test_steps_in_both_are_timed_by_turns_until_there_are_enough(tiny_base: Base) -> None:
    pairs = step_times(tiny_base, split(), OPTIONS, SPEC, Clock(0.01))

    assert pairs == [pytest.approx((0.01, 0.01))] * PAIRS


def test_a_large_model_takes_one_step_in_each_and_no_more(tiny_base: Base) -> None:
    clock = Clock(BUDGET_SECONDS)

    pairs = step_times(tiny_base, split(), OPTIONS, SPEC, clock)

    assert pairs == [(BUDGET_SECONDS, BUDGET_SECONDS)]
    assert clock.now == 6 * BUDGET_SECONDS  # two looks a step, one before and one after them all


def test_nothing_that_is_learnt_in_a_measurement_stays(tiny_base: Base) -> None:
    def trained(*, after_a_measurement: bool) -> GradientTrainer:
        torch.manual_seed(0)
        if after_a_measurement:
            step_times(tiny_base, split(), OPTIONS, SPEC, Clock(0.01))
        assert int(torch.randint(1_000_000, ())) == drawn
        trainer = AdamW().trainer(attach(tiny_base, SPEC), split(), OPTIONS)
        trainer.run(2)
        return trainer

    torch.manual_seed(0)
    drawn = int(torch.randint(1_000_000, ()))

    assert trained(after_a_measurement=True).adapter.equals(trained(after_a_measurement=False).adapter)


def test_bf16_where_the_processor_has_units_for_it_is_timed_and_learns_as_fp32_does() -> None:
    if reason := processor.missing(torch.device("cpu")):
        pytest.skip(f"NOT COVERED HERE: training in bf16 on units of the processor, since {reason}")
    base, text = load_base("nano", device="cpu"), split(vocabulary=4096)
    options = structs.replace(OPTIONS, batch_size=2, context=48, accumulation=1, total_steps=0)
    ticks = iter(range(1000))
    assert len(step_times(base, text, options, AdapterSpec(), lambda: float(next(ticks)))) >= 1

    full, half = (
        [report.loss for report in AdamW().trainer(attach(each, AdapterSpec()), text, options).run(8)]
        for each in (base, replace(base, precision="bf16"))
    )

    assert full != half
    assert half[-1] < half[0] - 0.05
    assert half == pytest.approx(full, rel=0.01)
