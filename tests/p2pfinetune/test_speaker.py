"""What a learner's models say, pass by pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from p2pfinetune.errors import OptionError
from p2pfinetune.model.adapter import Adapter, attach
from p2pfinetune.model.base import Base
from p2pfinetune.options import AdapterSpec
from p2pfinetune.round.speaker import NEXT_LINE, Speaker, kept_bytes
from p2pfinetune.speech import Begun, ChatLine, Ended, Piece, Sampling

SPEC = AdapterSpec(rank=2, alpha=4)


@pytest.fixture(scope="module")
def adapters(tiny_base: Base) -> list[Adapter]:
    initial = attach(tiny_base, SPEC).initial
    return [initial, Adapter({name: tensor + 0.3 for name, tensor in initial.tensors.items()})]


def text(said: list[Any]) -> str:
    return "".join(one.text for one in said if isinstance(one, Piece))


def test_answers_by_turns_say_what_each_says_alone(tiny_base: Base, adapters: list[Adapter]) -> None:
    sampling = Sampling(max_tokens=8, temperature=1.0, seed=4)

    def begin(adapter: Adapter, speaker: Speaker) -> Any:
        return speaker.respond(adapter, "the river", sampling)

    alone = [list(begin(adapter, Speaker(tiny_base, SPEC))) for adapter in adapters]
    both = Speaker(tiny_base, SPEC)
    together = [*zip(*(begin(adapter, both) for adapter in adapters), strict=True)]

    assert text(alone[0]) != text(alone[1])
    assert [[*said] for said in zip(*together, strict=True)] == alone


def test_a_prompt_read_in_parts_is_gone_on_with_as_if_it_were_read_at_once(
    tiny_base: Base, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask() -> list[Any]:
        return list(Speaker(tiny_base, SPEC).respond(adapters[1], "the river and the sea", Sampling(max_tokens=6)))

    whole = ask()
    monkeypatch.setattr("p2pfinetune.model.generate.PASS_TOKENS", 2)
    parts = ask()

    assert text(parts) == text(whole)
    assert parts.count(None) > whole.count(None)
    assert isinstance(whole[0], Begun)
    assert isinstance(whole[-1], Ended)


def test_a_base_without_a_template_stops_at_the_next_line(
    tiny_base: Base, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Sampling] = []

    def spy(base: Any, model: Any, ids: Any, sampling: Sampling) -> Any:
        seen.append(sampling)
        return iter([Ended(reason="stop", prompt_tokens=0, completion_tokens=0)])

    monkeypatch.setattr("p2pfinetune.round.speaker.said_by", spy)
    list(Speaker(tiny_base, SPEC).respond(adapters[0], [ChatLine("user", "hi")], Sampling(max_tokens=2, stop=("x",))))

    assert seen[0].stop == ("x", *NEXT_LINE)


def test_the_spelling_of_a_control_token_in_a_chat_is_text(
    tiny_base: Base, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, end = tiny_base.tokenizer, str(tiny_base.tokenizer.eos_token)
    monkeypatch.setattr(tokenizer, "chat_template", "{% for m in messages %}{{ eos_token + m.content }}{% endfor %}")
    seen: list[list[int]] = []
    monkeypatch.setattr("p2pfinetune.round.speaker.said_by", lambda base, by, ids, _: iter(seen.append(ids) or ()))
    list(Speaker(tiny_base, SPEC).respond(adapters[0], [ChatLine("user", f"a {end} b")], Sampling(max_tokens=2)))

    assert seen[0].count(tokenizer.eos_token_id) == 1  # the template's own
    assert tokenizer.decode(seen[0]) == f"{end}a {end} b"


def test_the_oldest_lines_of_a_chat_are_left_out_and_never_what_the_system_says(
    tiny_base: Base, adapters: list[Adapter]
) -> None:
    speaker = Speaker(tiny_base, SPEC)
    asked = [ChatLine("system", "be short")]
    for n in range(20):
        asked += [ChatLine("user", f"user {n}"), ChatLine("assistant", f"assistant {n}")]
    asked += [ChatLine("user", "now")]
    sampling = Sampling(max_tokens=4)
    begun = next(speaker.respond(adapters[0], asked, sampling))

    assert isinstance(begun, Begun)
    assert 0 < begun.left_out < len(asked)
    assert begun.left_out % 2 == 0  # it begins where the user speaks
    assert begun.prompt_tokens <= speaker.context - 4
    with pytest.raises(OptionError, match="looks at 64"):
        speaker.respond(adapters[0], asked, sampling, cuts=False)


def test_a_prompt_too_long_is_cut_at_its_beginning_or_refused(tiny_base: Base, adapters: list[Adapter]) -> None:
    speaker = Speaker(tiny_base, SPEC)
    begun = next(speaker.respond(adapters[0], "the river " * 100, Sampling(max_tokens=1000)))

    assert isinstance(begun, Begun)
    assert begun.prompt_tokens == speaker.context // 2  # the answer has the other half
    assert begun.left_out > 0
    with pytest.raises(OptionError, match="looks at"):
        speaker.respond(adapters[0], "the river " * 100, Sampling(max_tokens=4), cuts=False)


def test_a_model_that_keeps_much_of_each_token_is_given_fewer() -> None:
    wide = SimpleNamespace(num_hidden_layers=32, num_attention_heads=32, hidden_size=4096)
    grouped = SimpleNamespace(**vars(wide), num_key_value_heads=8, head_dim=128)

    assert (kept_bytes(wide), kept_bytes(grouped)) == (1 << 20, 1 << 18)
    assert kept_bytes(SimpleNamespace()) > 0


def test_how_likely_each_token_was_is_told_with_the_likeliest(tiny_base: Base, adapters: list[Adapter]) -> None:
    sampling = Sampling(max_tokens=5, choices=3)
    said = list(Speaker(tiny_base, SPEC).respond(adapters[1], "the river", sampling))
    chances = [chance for piece in said if isinstance(piece, Piece) for chance in piece.chances]

    assert len(chances) == said[-1].completion_tokens == 5
    assert all(chance.logprob == chance.top[0].logprob < 0 for chance in chances)  # greedy
    assert {len(chance.top) for chance in chances} == {3}
