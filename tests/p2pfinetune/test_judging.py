"""What is measured before a merge is taken or refused, and what by."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from p2pfinetune.model.adapter import Adapter
from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.round.judging import RETURNED, Judge
from p2pfinetune.round.looks import GuardLooks
from p2pfinetune.scoring.evaluate import Block, Evaluation, Measure
from p2pfinetune.scoring.paired import token_mean

ME, FRIEND, OTHER = PeerId("me"), PeerId("friend"), PeerId("other")
WINDOWS, EACH = 80, 100
TOKENS = np.full(WINDOWS, EACH)
HARDNESS = np.random.default_rng(1).normal(3.0, 0.5, WINDOWS)
NOISE = np.random.default_rng(2).normal(0.0, 0.02, WINDOWS)


def adapter(value: float) -> Adapter:
    return Adapter({"x.lora_A": torch.full((1, 1), value), "x.lora_B": torch.ones((1, 1))})


def value_of(held: Adapter) -> float:
    return round(float(held.tensors["x.lora_A"][0, 0]), 4)


class Text:
    """A guard split in ten blocks; an adapter's losses are known by its value. Counts the windows that are run."""

    def __init__(self, losses: Mapping[float, NDArray[np.float64]]) -> None:
        self.losses = losses
        self.run: dict[float, int] = {}
        self.measure = Measure((), TOKENS, np.arange(WINDOWS))
        order = np.random.default_rng(3).permutation(WINDOWS)
        parts = [np.sort(part) for part in np.array_split(order, 10)]
        self.blocks = [Block(Measure((), TOKENS[part], part), part) for part in parts]

    def looks(self, turn: int = 1) -> GuardLooks:
        return GuardLooks(self.measure, self.blocks, self._run, turn)

    def whole(self, value: float) -> Evaluation:
        found = self.losses[value]
        return Evaluation(token_mean(found, TOKENS), int(TOKENS.sum()), found, TOKENS, np.arange(WINDOWS))

    def _run(self, held: Adapter, measure: Measure) -> Evaluation:
        value, windows = value_of(held), measure.per_window_document  # which are the numbers of the windows here
        self.run[value] = self.run.get(value, 0) + len(windows)
        return self.whole(value).of(windows)


def mixed(row: TrustRow, *, own: Adapter, neighbours: Mapping[PeerId, Adapter]) -> Adapter:
    adapters = {**neighbours, ME: own}
    if row.weights[ME] == 1.0:
        return own
    return adapter(sum(weight * value_of(adapters[peer]) for peer, weight in row.weights.items()))


def judge(text: Text, turn: int = 1, **changes: Any) -> Judge:
    """I hold 0; a friend holds 1, another 2."""
    given: dict[str, Any] = {
        "me": ME, "own": adapter(0.0), "neighbours": {FRIEND: adapter(1.0), OTHER: adapter(2.0)}, "mixed": mixed,
        "resets_moments": False, "guard": text.looks(turn), "began": lambda: text.whole(-1.0), "best": adapter(-2.0),
        "best_loss": math.inf, "tolerance": 0.05, "credit": 0.0, "max_share": 1.0, "owed": math.inf, "guarded": True,
    }  # fmt: skip
    return Judge(**{**given, **changes})


ROW = TrustRow({ME: 0.5, FRIEND: 0.5, OTHER: 0.0})  # to 0.5
SECOND = TrustRow({ME: 0.5, FRIEND: 0.0, OTHER: 0.5})  # to 1


def text(**shifts: float) -> Text:
    """Losses beside mine by `v` and the value; what the round began with is a little above mine."""
    values = {float(name[1:].replace("_", ".")): shift for name, shift in shifts.items()}
    losses = {value: HARDNESS + shift + NOISE * (value * 7 % 3 - 1.0) for value, shift in values.items()}
    return Text({0.0: HARDNESS, -1.0: HARDNESS + 0.02, **losses})


def test_what_is_clearly_worse_is_refused_by_a_part_and_only_the_own_adapter_is_measured_on_all() -> None:
    there = text(v0_5=0.4, v0_25=0.2, v0_125=0.1)

    _, outcome = judge(there).judged(ROW, None)

    assert (outcome.reason, value_of(outcome.personal)) == ("worse-than-own", 0.0)
    assert there.run[0.0] == WINDOWS
    assert max(there.run[0.5], there.run[0.25], there.run[0.125]) <= WINDOWS / 4
    assert outcome.loss == there.whole(0.0).loss


def test_what_is_clearly_better_is_taken_and_measured_on_all_and_the_own_adapter_on_a_part() -> None:
    there = text(v0_5=-0.4)

    _, outcome = judge(there).judged(ROW, None)

    assert (outcome.reason, value_of(outcome.personal)) == ("", 0.5)
    assert there.run == {0.0: there.run[0.0], 0.5: WINDOWS}
    assert there.run[0.0] <= WINDOWS / 4
    assert outcome.loss == there.whole(0.5).loss


@pytest.mark.parametrize(("shift", "reason"), [(1e-5, "worse-than-own"), (0.0, ""), (-1e-5, "")])
def test_what_is_close_is_decided_by_all_windows_to_the_last_digit(shift: float, reason: str) -> None:
    wavering = HARDNESS + 0.05 * np.where(np.arange(WINDOWS) % 2, 1.0, -1.0)
    there = text(v0_25=0.5, v0_125=0.5)
    there.losses = {**there.losses, 0.5: wavering - token_mean(wavering - HARDNESS, TOKENS) + shift}
    if not shift:
        there.losses = {**there.losses, 0.5: HARDNESS}  # a copy

    _, outcome = judge(there).judged(ROW, None)

    assert outcome.reason == reason
    assert there.run[0.5] == there.run[0.0] == WINDOWS


@pytest.mark.parametrize("turn", range(8))
def test_a_harm_that_hides_in_a_few_windows_comes_out_when_the_rest_is_measured(turn: int) -> None:
    """A look at 10 to 40 of 80 windows may miss three; the merge is measured on all before it is taken."""
    there = text(v0_25=0.5, v0_125=0.5)
    hidden = HARDNESS - 0.02 + 0.1 * NOISE
    hidden[[7, 31, 55]] += 2.0
    there.losses = {**there.losses, 0.5: hidden}

    _, outcome = judge(there, turn).judged(ROW, None)

    assert outcome.reason == "worse-than-own"


def test_a_second_row_that_is_not_better_at_the_first_look_is_looked_at_no_further() -> None:
    there = text(v0_5=-0.4, v1_0=-0.4)

    row, outcome = judge(there).judged(ROW, lambda _: SECOND)

    assert row is ROW
    assert there.run[1.0] <= WINDOWS / 4
    assert value_of(outcome.personal) == 0.5


def test_a_second_row_that_is_clearly_better_at_every_look_is_taken() -> None:
    there = text(v0_5=-0.1, v1_0=-0.4)

    row, outcome = judge(there).judged(ROW, lambda _: SECOND)

    assert (row, value_of(outcome.personal)) == (SECOND, 1.0)


def test_a_second_row_is_all_there_is_if_the_first_was_refused() -> None:
    there = text(v0_5=0.4, v1_0=-0.1)

    row, outcome = judge(there).judged(ROW, lambda _: SECOND)

    assert (row, value_of(outcome.personal), outcome.reason) == (SECOND, 1.0, "")


def test_part_of_the_way_is_taken_if_the_whole_of_it_is_refused() -> None:
    there = text(v0_5=0.4, v0_25=-0.1)

    row, outcome = judge(there).judged(ROW, None)

    assert (row.weights[FRIEND], value_of(outcome.personal)) == (0.25, 0.25)


def test_a_merge_that_is_no_number_anywhere_is_refused_at_once() -> None:
    there = text(v0_5=0.0)
    there.losses = {**there.losses, 0.5: np.full(WINDOWS, math.nan)}

    _, outcome = judge(there).judged(ROW, None)

    assert outcome.reason == "not-finite"
    assert there.run[0.5] <= WINDOWS / 4


def test_whatever_was_looked_at_first_an_outcome_far_above_the_best_is_the_best() -> None:
    there = text(v0_5=-0.4)

    _, outcome = judge(there, best_loss=1.0).judged(ROW, None)

    assert (outcome.reason, outcome.loss) == (RETURNED, 1.0)


def test_a_loss_over_all_windows_is_the_same_to_the_bit_in_whatever_order_they_were_looked_at() -> None:
    held, orders = adapter(0.5), []
    for turn in range(4):
        there = text(v0_5=0.123)
        looks = there.looks(turn)
        looks.pair(held, held, 3)
        orders.append(tuple(looks.seen(held)[1]))
        assert looks.whole(held).loss == there.whole(0.5).loss
    assert len(set(orders)) > 1
    again = text(v0_5=0.0).looks(2)
    again.pair(held, held, 3)
    assert orders[2] == tuple(again.seen(held)[1])


def test_no_window_is_run_twice() -> None:
    there, held = text(v0_5=0.1), adapter(0.5)
    looks = there.looks()

    for blocks in (1, 4, 2, 10):
        looks.pair(held, held, blocks)
    looks.whole(held)

    assert there.run == {0.5: WINDOWS}
