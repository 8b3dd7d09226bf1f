"""From paths to four cached token splits."""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from p2pfinetune.data import token_cache
from p2pfinetune.data.corpus import glance, minimum_tokens, prepare, read_whole
from p2pfinetune.data.dealer import Dealer
from p2pfinetune.data.documents import read_documents
from p2pfinetune.data.splits import SPLITS, split_of
from p2pfinetune.data.token_cache import TokenSplit
from p2pfinetune.data.tokens import beginning, encode, token_type
from p2pfinetune.errors import TextError, TooLittleText
from p2pfinetune.names import Digest

DIGEST = Digest("0" * 64)


def byte_tokenizer(*, end="<|end|>", first=None, extra=0):
    """A token a byte, so that sizes in tokens are known."""
    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(f"<{i}>" for i in range(extra))]
    made = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = {"eos_token": end} if end else {}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, **special, **({"bos_token": first} if first else {}))
    if first:
        wrapped.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, wrapped.bos_token_id)]
        )
    return wrapped


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def write_notes(folder, count, *, start=0, length=500):
    folder.mkdir(exist_ok=True)
    for i in range(start, start + count):
        dice = random.Random(i)
        (folder / f"note-{i}.txt").write_text("".join(dice.choices("abcdefgh ", k=length)).strip("\n ") + f" {i}")


@pytest.fixture
def notes(tmp_path):
    write_notes(tmp_path / "notes", 40)
    return tmp_path / "notes"


def made(notes, tokenizer, tmp_path, *, salt="me", context=64, cache="cache", dealer=None):
    where = {"tokenizer_digest": DIGEST, "cache": tmp_path / cache, "context": context, "salt": salt}
    return prepare([notes], tokenizer, **where, dealer=dealer)


def decoded(corpus, tokenizer):
    return {
        split: {tokenizer.decode(corpus.split(split).document(i)[:-1]) for i in range(corpus.split(split).documents)}
        for split in SPLITS
    }


def test_every_document_is_in_exactly_one_split_and_comes_back_as_text(notes, tokenizer, tmp_path):
    corpus = made(notes, tokenizer, tmp_path)
    found = decoded(corpus, tokenizer)

    assert sorted(text for texts in found.values() for text in texts) == sorted(
        d.text for d in read_documents([notes])[0]
    )
    assert corpus.report.documents == 40


def test_documents_go_where_their_hash_says(notes, tokenizer, tmp_path):
    found = decoded(made(notes, tokenizer, tmp_path), tokenizer)

    for document in read_documents([notes])[0]:
        assert document.text in found[split_of(document.id, "me")]


def test_each_document_ends_with_end_of_text(notes, tokenizer, tmp_path):
    train = made(notes, tokenizer, tmp_path).train

    assert all(train.document(i)[-1] == tokenizer.eos_token_id for i in range(train.documents))
    assert train.starts[0] == 0
    assert train.starts[-1] == len(train.tokens)


def test_tokens_are_mapped_from_disk_and_cannot_be_written(notes, tokenizer, tmp_path):
    train = made(notes, tokenizer, tmp_path).train

    assert isinstance(train.tokens, np.memmap)
    assert train.tokens.dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        train.tokens[0] = 1


def test_the_second_time_nothing_is_tokenised(notes, tokenizer, tmp_path, monkeypatch):
    first = made(notes, tokenizer, tmp_path)
    monkeypatch.setattr("p2pfinetune.data.chats.marking.encode", lambda *_: pytest.fail("tokenised again"))
    second = made(notes, tokenizer, tmp_path)

    assert second.fingerprint == first.fingerprint
    assert all(np.array_equal(second.split(s).tokens, first.split(s).tokens) for s in SPLITS)


@pytest.fixture
def encoded(monkeypatch):
    """Every text that is encoded, in order."""
    texts = []

    def noted(given, tokenizer):
        texts.extend(given)
        return encode(given, tokenizer)

    monkeypatch.setattr("p2pfinetune.data.chats.marking.encode", noted)
    return texts


def test_in_a_file_that_has_grown_only_new_blocks_are_encoded(tokenizer, tmp_path, encoded):
    write_notes(tmp_path / "notes", 12, length=3000)
    log = tmp_path / "notes" / "log.txt"
    log.write_text("".join(f"info: step {i} took {random.Random(i).random()}\n" for i in range(1500)))
    made(tmp_path / "notes", tokenizer, tmp_path)
    before = len(encoded)
    with log.open("a") as file:
        file.write("one more line\n")
    grown = made(tmp_path / "notes", tokenizer, tmp_path)
    fresh = made(tmp_path / "notes", tokenizer, tmp_path, cache="another")

    assert before > 20
    assert [text.endswith("one more line") for text in encoded[before : before + 1]] == [True]
    assert len(encoded) - before - sum(fresh.split(split).documents for split in SPLITS) <= 2
    assert grown.fingerprint == fresh.fingerprint
    assert all(np.array_equal(grown.split(split).tokens, fresh.split(split).tokens) for split in SPLITS)


def test_what_is_in_no_split_is_not_encoded_again_either(notes, tokenizer, tmp_path, encoded):
    dealer = Dealer("me")
    given = {"tokenizer_digest": DIGEST, "cache": tmp_path / "cache", "context": 64, "salt": "me", "dealer": dealer}
    prepare([notes], tokenizer, **given)
    (left_out,) = read_documents([notes / "note-0.txt"])[0]
    dealer.rows[left_out.id] = replace(dealer.rows[left_out.id], split=None)
    prepare([notes], tokenizer, **given)
    before = len(encoded)
    write_notes(notes, 1, start=100)
    prepare([notes], tokenizer, **given)

    assert len(encoded) == before + 1


def test_tokens_of_another_tokenizer_are_not_taken_over(notes, tokenizer, tmp_path, encoded):
    made(notes, tokenizer, tmp_path)
    write_notes(notes, 1, start=100)
    prepare([notes], tokenizer, tokenizer_digest=Digest("1" * 64), cache=tmp_path / "cache", context=64, salt="me")

    assert len(encoded) == 40 + 41


def test_names_of_files_do_not_count(notes, tokenizer, tmp_path):
    first = made(notes, tokenizer, tmp_path, cache="one")
    for path in list(notes.iterdir()):
        path.rename(notes / f"renamed-{1000 - int(path.stem.split('-')[1])}.md")
    second = made(notes, tokenizer, tmp_path, cache="two")

    assert second.fingerprint == first.fingerprint
    assert np.array_equal(second.train.tokens, first.train.tokens)


@pytest.mark.parametrize("change", ["text", "salt"])
def test_other_content_has_another_fingerprint(notes, tokenizer, tmp_path, change):
    first = made(notes, tokenizer, tmp_path)
    if change == "text":
        (notes / "note-0.txt").write_text("edited")
    second = made(notes, tokenizer, tmp_path, salt="you" if change == "salt" else "me")

    assert second.fingerprint != first.fingerprint


def test_another_tokenizer_is_not_given_the_cached_tokens(notes, tokenizer, tmp_path):
    made(notes, tokenizer, tmp_path)
    other = prepare(
        [notes],
        byte_tokenizer(end=None),
        tokenizer_digest=Digest("1" * 64),
        cache=tmp_path / "cache",
        context=64,
        salt="me",
    )

    assert tokenizer.eos_token_id not in other.train.tokens


def damage_tokens(folder):
    data = bytearray((folder / "tokens.bin").read_bytes())
    data[100] ^= 1
    (folder / "tokens.bin").write_bytes(data)


def shorten_tokens(folder):
    (folder / "tokens.bin").write_bytes((folder / "tokens.bin").read_bytes()[:-2])


def damage_index(folder):
    stored = json.loads((folder / "index.json").read_text())
    stored["index"]["splits"]["train"][0][1] += 1
    (folder / "index.json").write_text(json.dumps(stored))


def half_an_index(folder):
    (folder / "index.json").write_text((folder / "index.json").read_text()[:50])


@pytest.mark.parametrize(
    "damage",
    [damage_tokens, shorten_tokens, damage_index, half_an_index, lambda folder: (folder / "index.json").unlink()],
)
def test_a_damaged_cache_is_noticed_and_made_again(notes, tokenizer, tmp_path, damage):
    first = made(notes, tokenizer, tmp_path)
    tokens = {split: np.array(first.split(split).tokens) for split in SPLITS}
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    damage(folder)
    second = made(notes, tokenizer, tmp_path)

    assert second.fingerprint == first.fingerprint
    assert all(np.array_equal(second.split(split).tokens, tokens[split]) for split in SPLITS)
    assert token_cache.load(folder) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "uint9"},
        {"type": []},
        {"splits": []},
        {"splits": {split: [["d", 4, "file"]] for split in SPLITS}},
        {"splits": {split: [["d", -1, "file"]] for split in SPLITS}},
        {"splits": {split: [["d"]] for split in SPLITS}},
        {"splits": {split: [["d", 2**70, "file"]] for split in SPLITS}},
    ],
    ids=str,
)
def test_an_index_that_nobody_could_have_written_is_as_good_as_none(notes, tokenizer, tmp_path, changes):
    made(notes, tokenizer, tmp_path)
    (path,) = (tmp_path / "cache").glob("*/index.json")
    body = {**json.loads(path.read_text())["index"], **changes}
    path.write_text(json.dumps({"sha256": token_cache._digest(body), "index": body}))

    assert token_cache.load(path.parent) is None


def test_an_interrupted_write_leaves_no_half_corpus(notes, tokenizer, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(token_cache, "_digest", stop)
        with pytest.raises(KeyboardInterrupt):
            made(notes, tokenizer, tmp_path)
    (left,) = (tmp_path / "cache").iterdir()
    left.rename(left.with_name(left.name + "9"))  # another process cannot know the name
    made(notes, tokenizer, tmp_path)

    assert len(list((tmp_path / "cache").iterdir())) == 1  # neither half a folder nor a scratch one


def test_old_corpora_do_not_fill_the_disk(notes, tokenizer, tmp_path):
    for i in range(token_cache.KEPT + 3):
        (notes / "note-0.txt").write_text(f"edit {i}")
        made(notes, tokenizer, tmp_path)

    assert len(list((tmp_path / "cache").iterdir())) == token_cache.KEPT


def test_the_index_says_which_document_went_where(notes, tokenizer, tmp_path):
    made(notes, tokenizer, tmp_path)
    (path,) = (tmp_path / "cache").glob("*/index.json")
    splits = json.loads(path.read_text())["index"]["splits"]

    assert all(split_of(Digest(found), "me") == split for split in SPLITS for found, _, _ in splits[split])
    assert sum(map(len, splits.values())) == 40


def test_adding_and_removing_files_moves_no_other_document(tokenizer, tmp_path):
    write_notes(tmp_path / "notes", 12, length=150)
    dealer = Dealer("me")
    before = decoded(made(tmp_path / "notes", tokenizer, tmp_path, dealer=dealer), tokenizer)
    write_notes(tmp_path / "notes", 25, start=100)
    (tmp_path / "notes" / "note-3.txt").unlink()
    after = decoded(made(tmp_path / "notes", tokenizer, tmp_path, dealer=dealer), tokenizer)
    gone = {text for texts in before.values() for text in texts} - {t for texts in after.values() for t in texts}

    assert len(gone) == 1
    assert all(before[split] - gone <= after[split] for split in SPLITS)


@pytest.mark.parametrize("salt", [f"user-{i}" for i in range(20)])
def test_twenty_kilobytes_are_enough_for_anyone(tokenizer, tmp_path, salt):
    write_notes(tmp_path / "notes", 10, length=2000)
    corpus = made(tmp_path / "notes", tokenizer, tmp_path, salt=salt, context=256)

    assert all(len(corpus.split(split).tokens) >= minimum_tokens(256)[split] for split in SPLITS)


def test_too_little_text_says_how_much_there_is_and_is_needed(tokenizer, tmp_path):
    write_notes(tmp_path / "notes", 3, length=500)

    with pytest.raises(TooLittleText, match=r"1,50\d tokens.*at least 3,584 tokens.*trust \d+ of 512") as caught:
        made(tmp_path / "notes", tokenizer, tmp_path, context=256)
    assert "more characters" in caught.value.hint
    assert not (tmp_path / "cache").exists()


def test_no_text_at_all_is_too_little(tokenizer, tmp_path):
    (tmp_path / "notes").mkdir()

    with pytest.raises(TooLittleText, match="0 documents"):
        made(tmp_path / "notes", tokenizer, tmp_path)


def test_too_little_text_says_what_was_left_out_and_why(tokenizer, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "scan.pdf").write_bytes(b"%PDF-1.7 " + b"x" * 500)

    with pytest.raises(TooLittleText, match=r"1 path skipped \(cannot be read as PDF .*\): .*scan\.pdf"):
        made(tmp_path / "notes", tokenizer, tmp_path)


def test_long_contexts_do_not_ask_for_more_than_one_window_of_training():
    assert minimum_tokens(4096)["train"] == 4097
    assert minimum_tokens(4096)["test"] == minimum_tokens(256)["test"]


def test_a_large_vocabulary_takes_four_bytes(tokenizer):
    assert token_type(tokenizer) is np.uint16
    assert token_type(byte_tokenizer(extra=70_000)) is np.uint32


def test_a_large_vocabulary_survives_the_cache(notes, tmp_path):
    large = byte_tokenizer(extra=70_000)
    train = made(notes, large, tmp_path).train

    assert train.tokens.dtype == np.uint32
    assert train.document(0)[-1] == large.eos_token_id > 65_535


def test_what_the_tokenizer_puts_first_is_kept():
    llama = byte_tokenizer(first="<s>")
    (ids,) = encode(["hi"], llama)

    assert beginning(llama) == [llama.bos_token_id]
    assert list(ids) == [llama.bos_token_id, *llama("hi", add_special_tokens=False)["input_ids"], llama.eos_token_id]


def test_without_an_end_of_text_token_documents_follow_one_another():
    (ids,) = encode(["hi"], byte_tokenizer(end=None))

    assert len(ids) == 2


def test_a_reference_text_is_one_split(notes, tokenizer):
    whole = read_whole([notes], tokenizer, context=64)

    assert whole.documents == 40
    with pytest.raises(TooLittleText, match="reference"):
        read_whole([notes / "note-1.txt"], tokenizer, context=10_000)


def test_a_split_in_memory_holds_its_documents():
    split = TokenSplit.of([np.asarray([1, 2], np.uint16), np.asarray([3], np.uint16)])

    assert split.documents == 2
    assert split.document(1).tolist() == [3]
    assert TokenSplit.of([]).documents == 0


def test_a_glance_notices_edits_and_new_and_vanished_files(notes):
    seen = [glance([notes])]
    assert glance([notes]) == seen[0]
    (notes / "new.txt").write_text("x")
    seen.append(glance([notes]))
    os.utime(notes / "new.txt", ns=(1, 1))
    seen.append(glance([notes]))
    (notes / "new.txt").write_text("xy")
    seen.append(glance([notes]))
    (notes / "note-0.txt").unlink()
    seen.append(glance([notes]))
    seen.append(glance([notes / "gone"]))

    assert len(set(seen)) == 6


def test_a_glance_opens_nothing(notes, monkeypatch):
    monkeypatch.setattr("p2pfinetune.data.files.Path.read_bytes", lambda _: pytest.fail("opened"))

    glance([notes])


def test_a_missing_path_is_named(tokenizer, tmp_path):
    with pytest.raises(TextError, match="nowhere"):
        made(tmp_path / "nowhere", tokenizer, tmp_path)


def test_the_cache_may_vanish_under_a_corpus_and_between_two_readings(notes, tokenizer, tmp_path):
    first = made(notes, tokenizer, tmp_path)
    before = np.array(first.train.tokens)
    shutil.rmtree(tmp_path / "cache")

    assert np.array_equal(first.train.tokens, before)  # mapped files live as long as they are mapped
    assert made(notes, tokenizer, tmp_path).fingerprint == first.fingerprint


def test_a_cache_that_cannot_be_written_is_done_without(notes, tokenizer, tmp_path):
    first = made(notes, tokenizer, tmp_path)
    (tmp_path / "in the way").touch()
    second = made(notes, tokenizer, tmp_path, cache="in the way/cache")

    assert second.fingerprint == first.fingerprint
    assert all(np.array_equal(second.split(s).tokens, first.split(s).tokens) for s in SPLITS)
