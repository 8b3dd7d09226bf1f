"""Continuations of a prompt."""

from typing import Any

import pytest
import torch

from p2pfinetune.errors import OptionError
from p2pfinetune.model.base import Base
from p2pfinetune.model.generate import continuation

PROMPT = "the quick brown"


def goes_on(base: Base, prompt: str = PROMPT, **options: Any) -> str:
    chosen = {"max_tokens": 12, "temperature": 0.0, "seed": 0, **options}
    return continuation(base, base.model, prompt, **chosen)


def test_greedy_continuation_takes_the_likeliest_token_each_time(tiny_base: Base) -> None:
    ids = tiny_base.tokenizer(PROMPT)["input_ids"]
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + 12:
            token = int(tiny_base.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if token == tiny_base.tokenizer.eos_token_id:
                break
            ids.append(token)

    assert goes_on(tiny_base) == tiny_base.tokenizer.decode(ids)[len(PROMPT) :]


def test_the_same_seed_gives_the_same_text_and_the_global_dice_are_left_alone(tiny_base: Base) -> None:
    before = torch.get_rng_state()

    texts = [goes_on(tiny_base, temperature=1.0, seed=seed) for seed in (1, 1, 2)]

    assert texts[0] == texts[1] != texts[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_tiny_top_p_is_greedy(tiny_base: Base) -> None:
    assert goes_on(tiny_base, temperature=1.0, top_p=1e-9) == goes_on(tiny_base)


@pytest.mark.parametrize("temperature", [1e-9, 1e-38, 1e-45, 1e-320])
def test_a_tiny_temperature_is_greedy(tiny_base: Base, temperature: float) -> None:
    assert goes_on(tiny_base, temperature=temperature) == goes_on(tiny_base)


def test_a_prompt_longer_than_the_context_leaves_room_for_the_answer(tiny_base: Base) -> None:
    assert goes_on(tiny_base, "the dog does not mind " * 50, temperature=1.0)


def test_an_empty_prompt_is_an_invitation(tiny_base: Base) -> None:
    assert goes_on(tiny_base, "", temperature=1.0, seed=3)


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}])
def test_options_out_of_range_are_refused(tiny_base: Base, wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        goes_on(tiny_base, **wrong)


@pytest.mark.parametrize("family", ["gpt2", "phi3"])
def test_other_families_generate_too(base_of: Any, family: str) -> None:
    assert goes_on(base_of(family), temperature=1.0, seed=1)
