"""A network of four tiny peers with two kinds of text."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pfinetune.simulation.config import AdapterChoice, PeerText, SimulationConfig, TrainingChoice

WORDS = {
    "a": ["fox", "dog", "jumps", "over", "quick", "lazy", "the"],
    "b": ["def", "return", "add", "(", ")", ":", "+"],
}


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("texts")
    for number in range(4):
        dice = random.Random(number)
        words = WORDS["ab"[number % 2]]
        rows = [json.dumps({"text": " ".join(dice.choices(words, k=30))}) for _ in range(40)]
        (root / f"peer{number}").mkdir()
        (root / f"peer{number}" / "text.jsonl").write_text("\n".join(rows))
    return root


@pytest.fixture
def config(tiny_folder: Callable[[str], Path], texts: Path) -> Callable[..., SimulationConfig]:
    def make(**changes: Any) -> SimulationConfig:
        peers = tuple(
            PeerText(name=f"peer{i}", data=(str(texts / f"peer{i}"),), shares=(1.0, 0.0) if i % 2 == 0 else (0.0, 1.0))
            for i in range(4)
        )
        settings = {
            "model": str(tiny_folder("llama")), "peers": peers, "rounds": 4, "steps": 2, "warmup_rounds": 1,
            "adapter": AdapterChoice(rank=2, alpha=4), "trust": "uniform", "guarded": False,
            "training": TrainingChoice(lr=1e-2, batch_size=2, context=32),
        }  # fmt: skip
        return SimulationConfig(**{**settings, **changes})

    return make
