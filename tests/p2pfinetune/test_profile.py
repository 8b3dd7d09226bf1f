"""A profile stands before everything, takes its room, and is never learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.data.profile import MOST_OF_CONTEXT, behind_profile, profile_ids
from p2pfinetune.data.tokens import TokenDocument
from p2pfinetune.errors import OptionError
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.context import reference_contexts
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.speaker import Speaker
from p2pfinetune.scoring.evaluate import PADDING, measure_of
from p2pfinetune.simulation.config import SimulationConfig
from p2pfinetune.speech import Begun, ChatLine, Sampling
from p2pfinetune.training.batches import UNCOUNTED, Blocks
from tests.p2pfinetune.test_learner import corpus

FRONT = (7, 8, 9)
RUNNING = TokenSplit.of([np.arange(100, 140, dtype=np.uint16), np.arange(200, 233, dtype=np.uint16)])
TALK = TokenDocument(np.arange(40, 52, dtype=np.uint16), np.arange(12) > 6)
TALKS = TokenSplit.of([TALK, np.arange(100, 120, dtype=np.uint16)])
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize("split", [RUNNING, TALKS], ids=["running", "talks"])
def test_every_block_begins_with_the_front_which_is_not_learnt_and_takes_its_room(split: TokenSplit) -> None:
    plain, fronted = Blocks(split, 13, 5), Blocks(replace(split, front=FRONT), 16, 5)

    assert fronted.context == 16
    assert plain.per_epoch == fronted.per_epoch
    for step in range(3):
        bare, batch = plain.batch(2 * step, 2), fronted.batch(2 * step, 2)
        assert batch.inputs_bt.shape == (2, 16)
        assert batch.inputs_bt[:, :3].tolist() == [list(FRONT)] * 2
        assert batch.inputs_bt[:, 3:].equal(bare.inputs_bt)
        assert (batch.targets_bt[:, :3] == UNCOUNTED).all()
        assert batch.targets_bt[:, 3:].equal(bare.targets_bt)
        assert batch.tokens == bare.tokens


@pytest.mark.parametrize("split", [RUNNING, TALKS], ids=["running", "talks"])
def test_every_window_is_read_behind_the_front_and_the_same_tokens_are_measured(split: TokenSplit) -> None:
    plain = measure_of(split, context=13, vocabulary=320)
    fronted = measure_of(replace(split, front=FRONT), context=16, vocabulary=320)

    assert fronted.per_window_tokens.tolist() == plain.per_window_tokens.tolist()
    for bare, batch in zip(plain.batches, fronted.batches, strict=True):
        assert batch.inputs_bt[:, :3].tolist() == [list(FRONT)] * len(batch.windows_b)
        assert batch.inputs_bt[:, 3:].equal(bare.inputs_bt)
        assert (batch.targets_bt[:, :3] == PADDING).all()
        assert batch.targets_bt[:, 3:].equal(bare.targets_bt)
        assert (batch.lengths_b == bare.lengths_b + 3).all()
    contexts = reference_contexts(replace(split, front=FRONT), 2, 8)
    assert contexts[:, :3].tolist() == [list(FRONT)] * 2
    assert contexts[:, 3:].equal(reference_contexts(split, 2, 8))


def test_a_profile_is_plain_text_or_a_system_line_if_the_base_has_one_and_at_most_a_quarter_of_the_context(
    tiny_base: Base,
) -> None:
    tokenizer = tiny_base.tokenizer
    plain = profile_ids("Ada, who writes of fens. ", tokenizer, 256)
    assert tokenizer.decode(plain, skip_special_tokens=True) == "Ada, who writes of fens.\n\n"
    assert profile_ids("  ", tokenizer, 256) == ()
    with pytest.raises(OptionError, match=f"{len(plain)} tokens of each sequence") as refused:
        profile_ids("Ada, who writes of fens.", tokenizer, len(plain) * MOST_OF_CONTEXT - 1)
    assert "--profile" in refused.value.hint

    before = tokenizer.chat_template
    tokenizer.chat_template = CHATML
    try:
        line = profile_ids("Ada", tokenizer, 1024)
        assert tokenizer.decode(line) == "<|im_start|>system\nAda<|im_end|>\n"
        tokenizer.chat_template = "{{ raise_exception('no system here') }}"
        assert tokenizer.decode(profile_ids("Ada", tokenizer, 256), skip_special_tokens=True) == "Ada\n\n"
    finally:
        tokenizer.chat_template = before


def test_every_prompt_and_chat_is_gone_on_with_behind_the_front_however_much_is_left_out(tiny_base: Base) -> None:
    plain, fronted = (Speaker(tiny_base, AdapterSpec(rank=2), front) for front in ((), FRONT))
    adapter = Learner(tiny_base, corpus(), OPTIONS, me=PeerId("me"), group="test").personal()
    sampling = Sampling(max_tokens=4, temperature=0.0, seed=0, top_p=1.0)
    for prompt in ("a", "word " * 200, [ChatLine("user", "a")]):
        said = [next(speaker.respond(adapter, prompt, sampling)) for speaker in (plain, fronted)]
        bare, behind = said
        assert isinstance(bare, Begun)
        assert isinstance(behind, Begun)
        assert behind.prompt_tokens == min(bare.prompt_tokens + 3, fronted.context - sampling.max_tokens)
        assert behind.left_out >= bare.left_out


OPTIONS = LearnerOptions(
    spec=AdapterSpec(rank=2), training=TrainingOptions(batch_size=2, context=32, lr=5e-3), tolerance=5.0,
    guarded=False, trust="uniform", profile="Ada",
)  # fmt: skip


def test_a_learner_learns_measures_and_remembers_behind_its_profile_and_tells_nobody(
    tiny_base: Base, tmp_path: Path
) -> None:
    def made(profile: str) -> Learner:
        options = structs.replace(OPTIONS, profile=profile)
        return Learner(tiny_base, corpus(), options, me=PeerId("me"), group="test")

    ada, nobody = made("Ada"), made("")
    assert ada.network == nobody.network
    assert ada.traits == nobody.traits
    assert ada.best_guard != nobody.best_guard
    front = list(profile_ids("Ada", tiny_base.tokenizer, 32))
    for split in ("train", "guard"):
        assert list(ada.split(split).front) == front  # type: ignore[arg-type]
    other = ada.measure(corpus(1).test)
    assert all(batch.inputs_bt[:, : len(front)].tolist() == [front] * len(batch.windows_b) for batch in other.batches)
    ada.train(2)
    ada.collaborate({})
    ada.save(tmp_path / "state")
    ada.save_best(tmp_path / "best")
    again, bob = made("Ada"), made("Bob")
    for learner in (again, bob):
        learner.restore(tmp_path / "state")
        learner.restore_best(tmp_path / "best", ada.best_guard)
    assert again.best_guard == ada.best_guard
    assert bob.best_guard != ada.best_guard  # behind another profile it is measured anew
    assert bob.personal().equals(ada.personal())


def test_text_without_a_profile_is_the_very_same_object() -> None:
    text = corpus()

    assert behind_profile(text, ()) is text
    assert behind_profile(text, FRONT).fingerprint != behind_profile(text, (1,)).fingerprint


def test_in_a_simulation_every_peers_name_is_its_profile(tmp_path: Path) -> None:
    texts: Any = [{"name": name, "data": ["."]} for name in ("ada", "bob")]
    config = structs.replace(_config(texts), named=True)

    assert [config.learner_options(PeerId(name)).profile for name in ("ada", "bob")] == ["ada", "bob"]
    assert _config(texts).learner_options(PeerId("ada")).profile == ""


def _config(texts: Any) -> SimulationConfig:
    import msgspec

    return msgspec.convert({"peers": texts}, SimulationConfig)
