"""Learning rates by step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pfinetune.training.schedule import learning_rate


@pytest.mark.parametrize("total", [100, 120, 500])
def test_a_known_number_of_steps_gives_the_one_cycle_of_the_paper(total: int) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=2e-3,
        total_steps=total,
        pct_start=0.02,
        div_factor=1e2,
        final_div_factor=0.05,
        cycle_momentum=False,
    )
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < total:
            reference.step()

    assert [learning_rate(step, 2e-3, total) for step in range(total)] == pytest.approx(expected)


def test_the_last_rate_stays_when_the_known_steps_are_over() -> None:
    assert learning_rate(10_000, 2e-3, 500) == pytest.approx(0.2 * 2e-3)


def test_without_an_end_the_rate_warms_up_for_twenty_steps_and_stays() -> None:
    rates = [learning_rate(step, 1.0, 0) for step in range(100)]

    assert rates[0] == pytest.approx(0.01)
    assert rates[:20] == sorted(rates[:20])
    assert rates[18] < 1.0
    assert set(rates[20:]) == {1.0}


@given(step=st.integers(0, 3000), total=st.integers(0, 2000), peak=st.floats(1e-6, 1.0))
def test_a_rate_is_always_between_a_hundredth_of_the_peak_and_the_peak(step: int, total: int, peak: float) -> None:
    assert 0.0099 * peak <= learning_rate(step, peak, total) <= 1.0001 * peak


def test_a_negative_step_is_a_bug() -> None:
    with pytest.raises(ValueError, match="zero or positive"):
        learning_rate(-1, 1.0, 0)
