"""What somebody writes is text: nothing in it becomes a token that ends a text, begins one, or separates turns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from p2pfinetune.data.tokens import control_tokens, encode, plain_ids
from p2pfinetune.model.generate import prompt_ids

CONTROL = ["<|endoftext|>", "</s>", "<s>", "<|im_start|>", "<think>", "[INST]"]
NOTE = "In GPT-2 <|endoftext|> ends a text, in Llama </s>; chats have <|im_start|>user and <think>\n[INST] hm <s>"
LETTERS = [*map(chr, range(32, 127)), "\n"]


def wrapped(made, special):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=special[0], unk_token=None)
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.add_tokens([AddedToken(name, special=False) for name in CONTROL if name not in special])
    tokenizer.add_tokens([AddedToken("        ", special=False), AddedToken("hm", special=False)])
    return tokenizer


def byte_level():
    made = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return wrapped(made, ["<|endoftext|>"])


def sentencepiece_like():
    """As Llama's: words begin with a low line, and control tokens stand in the plain vocabulary as well."""
    names = ["<unk>", "<s>", "</s>", "▁", *LETTERS]
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(names)}, merges=[], unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return wrapped(made, ["</s>", "<s>"])


def unigram():
    """Finds the likeliest pieces, and its control tokens are the likeliest of all."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("<s>", 0.0), *((c, -5.0) for c in LETTERS)]
    return wrapped(Tokenizer(models.Unigram(pieces, unk_id=0)), ["</s>", "<s>"])


def whole_words():
    names = ["<unk>", "</s>", "in", "Llama"]
    made = Tokenizer(models.WordLevel({c: i for i, c in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return wrapped(made, ["</s>"])


@pytest.mark.parametrize("make", [byte_level, sentencepiece_like, unigram, whole_words])
def test_no_control_token_comes_out_of_a_note_whatever_it_says(make):
    tokenizer = make()
    control = control_tokens(tokenizer)
    assert {tokenizer.convert_tokens_to_ids(name) for name in CONTROL} <= control.keys()

    (ids,) = plain_ids([NOTE], tokenizer)
    (document,) = encode([NOTE], tokenizer)

    assert control.keys().isdisjoint(ids)
    assert document.tolist() == [*ids, tokenizer.eos_token_id]


@pytest.mark.parametrize("make", [byte_level, unigram])
def test_the_note_is_all_there(make):
    tokenizer = make()

    assert "".join(
        tokenizer.decode(plain_ids([NOTE], tokenizer)[0], clean_up_tokenization_spaces=False).split()
    ) == "".join(NOTE.split())


def test_a_special_token_that_is_written_down_is_spelt_as_any_other_word():
    tokenizer = sentencepiece_like()

    assert tokenizer.decode(plain_ids(["a</s>b <s>"], tokenizer)[0]) == "a</s>b <s>"


def test_a_note_without_such_words_is_encoded_as_ever_added_words_and_indentation_included():
    tokenizer, note = byte_level(), "        hm, a < b and c > d [1]"

    assert plain_ids([note], tokenizer)[0] == tokenizer(note, add_special_tokens=False)["input_ids"]
    assert {tokenizer.convert_tokens_to_ids(name) for name in ("        ", "hm")} <= set(
        plain_ids([note], tokenizer)[0]
    )


def test_a_prompt_is_text_as_well():
    tokenizer = byte_level()
    base = SimpleNamespace(tokenizer=tokenizer, max_context=None)

    assert prompt_ids(base, NOTE) == plain_ids([NOTE], tokenizer)[0]
