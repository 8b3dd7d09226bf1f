"""How fast a model trains here is a figure, or the reason why there is none, as one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from p2pfinetune.training import speed_here


def test_a_model_is_measured_by_steps_that_count_and_what_is_none_is_said(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed_here, "MOST_STEPS", 2)
    codes = [speed_here.main(str(tiny_folder("llama"))), speed_here.main("no such folder")]
    found = [msgspec.json.decode(line, type=speed_here.SpeedHere) for line in capsys.readouterr().out.splitlines()]

    assert codes == [0, 2]
    assert found[0].tokens_per_second > 0
    assert "no model folder or file" in found[1].error
