"""Conversations in a user's corpus: dealt whole, near notes, kept with their marks, and read the same again."""

import json
import random
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from p2pfinetune.data import token_cache
from p2pfinetune.data.corpus import prepare, read_loose
from p2pfinetune.data.dealer import Dealer
from p2pfinetune.data.splits import SPLITS
from p2pfinetune.data.tokens import TokenDocument, passages
from p2pfinetune.errors import TooLittleText
from p2pfinetune.model.base import load_tokenizer
from p2pfinetune.names import Digest
from p2pfinetune.simulation.config import PeerText, SimulationConfig
from p2pfinetune.simulation.own_text import population_from_folders
from tests.support.texts import sentences

RULES = " ".join(sentences("stone", 99, files=3, lines=8))
"""A system prompt far longer than what is said."""


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("nano")


def rows(count, *, system=RULES, seed=0, turns=1):
    """Conversations of a dozen words a turn, each with its own."""
    dice = random.Random(seed)

    def words():
        return " ".join("".join(dice.choices("abcdefghilmnorstu", k=6)) for _ in range(14))

    def one():
        said = [{"role": role, "content": words()} for _ in range(turns) for role in ("user", "assistant")]
        return {"messages": [{"role": "system", "content": system}, *said] if system else said}

    return [one() for _ in range(count)]


def write(path, given):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, given)))


def made(data, tokenizer, cache, **others):
    how = {"tokenizer_digest": Digest("0" * 64), "cache": cache, "context": 64, "salt": "me"}
    return prepare([data], tokenizer, **{**how, **others})


def answers(split, tokenizer):
    """What is learnt of each document."""
    marks = [split.marks(i) for i in range(split.documents)]
    seen = [passages(TokenDocument(split.document(i), one), tokenizer) for i, one in enumerate(marks)]
    return ["".join(text for text, is_counted in parts if is_counted) for parts in seen]


def test_two_hundred_conversations_with_one_system_prompt_are_dealt_as_any_documents(tokenizer, tmp_path):
    given = rows(200)
    write(tmp_path / "data" / "chats.jsonl", given)
    corpus = made(tmp_path / "data", tokenizer, tmp_path / "cache")
    sizes = {split: corpus.split(split).documents for split in SPLITS}

    assert sum(sizes.values()) == 200
    assert corpus.report.copies.together == corpus.report.copies.left_out == 0
    assert all(15 <= sizes[split] <= 70 for split in ("trust", "guard", "test"))
    found = sorted(answer for split in SPLITS for answer in answers(corpus.split(split), tokenizer))
    assert found == sorted(f" {one['messages'][-1]['content']}<|endoftext|>" for one in given)


def test_a_conversation_stands_in_one_split_however_long_it_is(tokenizer, tmp_path):
    write(tmp_path / "data" / "long.jsonl", rows(1, turns=60))
    write(tmp_path / "data" / "short.jsonl", rows(60, seed=1))
    corpus = made(tmp_path / "data", tokenizer, tmp_path / "cache")
    lengths = sorted(int(n) for split in SPLITS for n in np.diff(corpus.split(split).starts))

    assert len(lengths) == 61
    assert lengths[-1] > 10 * lengths[-2]
    assert corpus.report.characters > 12_000


def test_notes_and_conversations_share_the_splits_and_come_back_from_the_cache(tokenizer, tmp_path):
    write(tmp_path / "data" / "chats.jsonl", rows(60, system="Be short."))
    for number, text in enumerate(sentences("water", 0, files=40)):
        (tmp_path / "data" / f"{number}.txt").write_text(text)
    first = made(tmp_path / "data", tokenizer, tmp_path / "cache")
    again = made(tmp_path / "data", tokenizer, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    marks = folder / token_cache.COUNTED
    damaged = bytes([1 - marks.read_bytes()[0]]) + marks.read_bytes()[1:]
    marks.unlink()  # and not written over: it is mapped
    marks.write_bytes(damaged)
    assert token_cache.load(folder) is None
    mended = made(tmp_path / "data", tokenizer, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("no folder")
    held = made(tmp_path / "data", tokenizer, tmp_path / "cache")

    for split in SPLITS:
        one = first.split(split)
        talks = [one.marks(i) is not None for i in range(one.documents)]
        assert 0 < sum(talks) < len(talks)
        assert one.counted_tokens == int(np.count_nonzero(one.counted)) < len(one.tokens)
        for other in (again, mended, held):
            assert np.array_equal(one.tokens, other.split(split).tokens)
            assert np.array_equal(one.counted, other.split(split).counted)
    assert len({corpus.fingerprint for corpus in (first, again, mended, held)}) == 1


def test_another_loss_or_template_counts_other_tokens_and_moves_no_document(tokenizer, tmp_path):
    write(tmp_path / "data" / "chats.jsonl", rows(60))
    dealer = Dealer("me")
    first, whole = (
        made(tmp_path / "data", tokenizer, tmp_path / "cache", dealer=dealer, loss=loss) for loss in ("answers", "all")
    )
    other = load_tokenizer("nano")
    other.chat_template = "{% for m in messages %}{{ m.role[0] + '\n' + m.content + eos_token }}{% endfor %}"
    third = made(tmp_path / "data", other, tmp_path / "cache", dealer=dealer)

    for split in SPLITS:
        one, two, three = first.split(split), whole.split(split), third.split(split)
        assert np.array_equal(one.tokens, two.tokens)
        assert two.counted_tokens == len(two.tokens) - two.documents
        assert answers(three, other) == [answer.strip() for answer in answers(one, tokenizer)]
    assert len({first.fingerprint, whole.fingerprint, third.fingerprint}) == 3


def test_a_conversation_that_a_template_refuses_keeps_its_place_for_another(tokenizer, tmp_path):
    given = rows(60)
    for one in given[:7]:
        one["messages"].insert(2, {"role": "tool", "content": "nothing"})
    write(tmp_path / "data" / "chats.jsonl", given)
    strict = load_tokenizer("nano")
    strict.chat_template = (
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
        "{{ m.role + m.content + eos_token }}{% endfor %}"
    )
    dealer = Dealer("me")
    for _ in range(2):  # also from the cache
        refused = made(tmp_path / "data", strict, tmp_path / "cache", dealer=dealer)
        assert refused.report.refused == 7
        assert "7 conversations left out: the model's chat template has no place for them" in refused.report.sentences()
    taken = made(tmp_path / "data", tokenizer, tmp_path / "cache", dealer=dealer)

    assert taken.report.refused == 0
    assert all(taken.split(s).documents == refused.split(s).documents for s in SPLITS)
    loose = read_loose([tmp_path / "data"], strict)
    assert (loose.report.refused, loose.split.documents) == (7, 60)


def test_too_little_text_is_told_in_tokens_of_answers(tokenizer, tmp_path):
    write(tmp_path / "data" / "chats.jsonl", rows(4, system=""))

    with pytest.raises(TooLittleText, match=r"tokens that count \(of conversations: those of answers\) in 4 documents"):
        made(tmp_path / "data", tokenizer, tmp_path / "cache")
    with pytest.raises(TooLittleText, match="tokens in 4 documents"):
        made(tmp_path / "data", tokenizer, tmp_path / "cache", loss="all")


def test_a_simulation_takes_the_same_option(tokenizer, tmp_path):
    write(tmp_path / "data" / "chats.jsonl", rows(60))
    base = SimpleNamespace(tokenizer=tokenizer, tokenizer_digest=Digest("0" * 64))
    peers = (PeerText(name="a", data=(str(tmp_path / "data"),)),)
    counted, whole = (
        population_from_folders(SimulationConfig(peers=peers, loss=loss), base).texts["a"].train  # type: ignore[arg-type]
        for loss in ("answers", "all")
    )

    assert counted.counted_tokens < len(counted.tokens) / 2
    assert whole.counted_tokens == len(whole.tokens) - whole.documents
