"""What a trust scheme remembers: saved with the learner, its own alone, and never the reason that an old home stays shut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.errors import CheckpointError
from p2pfinetune.model.adapter import attach
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.saved import load_state, save_state
from p2pfinetune.round.update import LoraUpdate
from p2pfinetune.training.checkpoint import load_groups, save_groups
from p2pfinetune.trust import NOTHING, SCHEMES
from p2pfinetune.trust.smoothed_validation import BEHIND

FRIEND, OTHER = PeerId("friend"), PeerId("other")
OPTIONS = LearnerOptions(
    spec=AdapterSpec(rank=2),
    training=TrainingOptions(batch_size=2, context=16, lr=5e-3),
    trust="smoothed-validation",
    trust_options={"temperature": 0.01},
    tolerance=0.5,
    max_share=1.0,
    second_look=False,  # the row as the scheme gives it
)


def corpus(seed: int) -> Corpus:
    dice = np.random.default_rng(seed)
    splits = [TokenSplit.of([dice.integers(1, 320, 40).astype(np.uint16) for _ in range(n)]) for n in (6, 2, 2, 2)]
    return Corpus(*splits, report=None, fingerprint=str(seed))  # type: ignore[arg-type]


class Home:
    """Learners on one live model, and what others shared in each of three rounds."""

    def __init__(self, base: Base) -> None:
        self._base, self._adapted = base, attach(base, OPTIONS.spec)
        self._stack = AdapterStack(self._adapted)
        others = {peer: self.learner(seed=seed) for seed, peer in ((1, FRIEND), (2, OTHER))}
        self.shared: list[dict[PeerId, LoraUpdate]] = []
        for _ in range(3):
            for other in others.values():
                other.train(2)
            self.shared.append({peer: self.heard(other) for peer, other in others.items()})

    def heard(self, other: Learner) -> LoraUpdate:
        update = other.admit(other.encode("fp32"), "fp32")
        assert isinstance(update, LoraUpdate)
        return update

    def learner(self, *, seed: int = 0, **changes: Any) -> Learner:
        options = msgspec.structs.replace(OPTIONS, **changes)
        return Learner(
            self._base,
            corpus(seed),
            options,
            me=PeerId(f"p{seed}"),
            group="g",
            adapted=self._adapted,
            stack=self._stack,
        )


@pytest.fixture(scope="module")
def home(tiny_base: Base) -> Home:
    return Home(tiny_base)


def test_a_row_says_what_earlier_rounds_were_and_a_restart_forgets_none_of_it(home: Home, tmp_path: Path) -> None:
    unbroken, fresh = home.learner(), home.learner()
    for number in range(2):
        unbroken.train(1)
        unbroken.collaborate(home.shared[number])
    unbroken.save(tmp_path / "saved")
    broken = home.learner()

    broken.restore(tmp_path / "saved")
    broken.save(tmp_path / "again")

    assert (tmp_path / "again").read_bytes() == (tmp_path / "saved").read_bytes()
    assert broken.forgotten == ""
    fresh.restore(tmp_path / "saved")
    fresh._kept = NOTHING
    ended = [learner.collaborate(home.shared[2]) for learner in (unbroken, broken, fresh)]
    assert ended[0].row == ended[1].row != ended[2].row
    assert unbroken._kept == broken._kept != fresh._kept
    assert list(broken._kept.tables[BEHIND]) == [FRIEND, OTHER]


def test_who_is_away_for_a_round_goes_on_where_it_was(home: Home) -> None:
    learner = home.learner()
    learner.collaborate(home.shared[0])
    before = learner._kept.tables[BEHIND][OTHER]

    learner.collaborate({FRIEND: home.shared[1][FRIEND]})
    learner.collaborate({})

    assert learner._kept.tables[BEHIND][OTHER] == before
    assert list(learner._kept.tables[BEHIND]) == [OTHER, FRIEND]  # who was heard longest ago is the first to go


def test_what_another_scheme_remembered_is_refused_by_name_and_begun_anew(home: Home, tmp_path: Path) -> None:
    first = home.learner()
    first.collaborate(home.shared[0])
    first.save(tmp_path / "saved")

    other = home.learner(trust="validation")
    other.restore(tmp_path / "saved")

    assert other._kept == NOTHING
    assert "'smoothed-validation'" in other.forgotten
    assert "'validation'" in other.forgotten
    other.save(tmp_path / "again")
    assert "trust" not in load_groups(tmp_path / "again", "learner")[0]


def test_a_checkpoint_of_before_schemes_remembered_anything_is_gone_on_from(home: Home, tmp_path: Path) -> None:
    forgetful = home.learner(trust="validation")
    forgetful.train(1)
    forgetful.collaborate(home.shared[0])
    forgetful.save(tmp_path / "saved")
    assert "trust" not in load_groups(tmp_path / "saved", "learner")[0]

    learner = home.learner()
    learner.restore(tmp_path / "saved")

    assert learner._kept == NOTHING
    assert learner.forgotten == ""
    assert learner.collaborate(home.shared[1]).row.weights.keys() == {PeerId("p0"), FRIEND, OTHER}


def test_with_nothing_remembered_a_smoothed_row_is_that_of_validation_and_with_keep_0_always(home: Home) -> None:
    options = {"temperature": 0.01}
    plain = home.learner(trust="validation", trust_options=options, guarded=False)
    smooth, without = (home.learner(trust_options={**options, "keep": k}, guarded=False) for k in (0.5, 0.0))

    for number in range(2):
        rows = [learner.collaborate(home.shared[number]).row.weights for learner in (plain, smooth, without)]
        assert rows[2] == pytest.approx(dict(rows[0]))
        assert (rows[1] == pytest.approx(dict(rows[0]), rel=1e-9)) == (number == 0)


@pytest.mark.parametrize(
    "wrong",
    [
        3,
        {"scheme": "smoothed-validation", "tables": 3},
        {"scheme": "smoothed-validation", "tables": {"behind": {"a": "much"}}},
        {"scheme": "smoothed-validation", "tables": {"behind": {"a": float("nan")}}},
        {"scheme": "smoothed-validation", "tables": {"behind": {str(i): 0.0 for i in range(20_000)}}},
    ],
    ids=["no table", "tables that are none", "a word for a number", "no number", "too many"],
)
def test_a_damaged_memory_is_a_damaged_checkpoint(home: Home, tmp_path: Path, wrong: Any) -> None:
    learner = home.learner()
    learner.save(tmp_path / "saved")
    values, groups = load_groups(tmp_path / "saved", "learner")
    save_groups(tmp_path / "wrong", "learner", {**values, "trust": wrong}, groups)

    with pytest.raises(CheckpointError):
        learner.restore(tmp_path / "wrong")


def test_saved_and_loaded_a_memory_is_the_same(home: Home, tmp_path: Path) -> None:
    learner = home.learner()
    learner.collaborate(home.shared[0])
    learner.save(tmp_path / "saved")

    state, fingerprint = load_state(tmp_path / "saved", learner.network, OPTIONS.spec, with_twin=False)
    save_state(tmp_path / "again", learner.network, fingerprint, state)

    assert state.kept == learner._kept
    assert state.kept_by == "smoothed-validation"
    assert (tmp_path / "again").read_bytes() == (tmp_path / "saved").read_bytes()


def test_a_learner_merges_layer_by_layer_and_shows_the_mean(home: Home) -> None:
    learner = home.learner(trust="layer-similarity", trust_options={}, guarded=False)
    learner.train(1)

    row = learner.collaborate(home.shared[0]).row

    assert len(row.layers) == len(learner._adapted.targets)
    assert len({tuple(weights.values()) for weights in row.layers.values()}) > 1
    assert row.weights.keys() == {PeerId("p0"), FRIEND, OTHER}
    assert SCHEMES.find("layer-similarity").by_layer
