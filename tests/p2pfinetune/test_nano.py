"""The embedded model and the report on it."""

from __future__ import annotations

import gzip
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from p2pfinetune import nano
from p2pfinetune.model.base import resolve_model
from scripts.nano import corpus, report
from scripts.nano.bits import Score, nats_of, score, windows

TEXT = "the lazy dog does not mind; def add(a, b): naïve ☃ " * 12


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    return report.load("tiny", tiny_folder("llama"))


def plain_nats(contestant, text):
    """Token by token, with nothing clever: the definition that the quick version is compared with."""
    ids = contestant.tokenizer(text, add_special_tokens=False)["input_ids"]
    step = contestant.model.config.max_position_embeddings - 1
    total = 0.0
    for i, token in enumerate(ids):
        before = [contestant.tokenizer.bos_token_id, *ids[i - i % step : i]]
        with torch.no_grad():
            logits = contestant.model(input_ids=torch.tensor([before])).logits[0, -1]
        total -= float(torch.log_softmax(logits.double(), dim=0)[token])
    return total


def test_the_score_is_that_of_the_definition(tiny):
    found = score(tiny.model, tiny.tokenizer, [TEXT, "short"])

    assert found.nats == pytest.approx(plain_nats(tiny, TEXT) + plain_nats(tiny, "short"), rel=1e-5)
    assert found.bytes == len(TEXT.encode()) + 5
    assert found.tokens == sum(len(tiny.tokenizer(t)["input_ids"]) for t in (TEXT, "short"))


def test_a_model_that_knows_nothing_pays_the_logarithm_of_its_vocabulary(tiny, tiny_folder):
    blank = AutoModelForCausalLM.from_pretrained(tiny_folder("llama"))
    torch.nn.init.zeros_(blank.get_input_embeddings().weight)  # tied: all logits are zero
    found = score(blank, tiny.tokenizer, [TEXT])

    assert found.bits_per_byte == pytest.approx(found.tokens * math.log2(blank.config.vocab_size) / len(TEXT.encode()))


def test_bits_per_byte_counts_bytes_and_not_tokens_or_letters():
    assert Score(nats=math.log(2) * 16, tokens=3, bytes=8).bits_per_byte == pytest.approx(2)
    assert Score(nats=1.0, tokens=4, bytes=8).bytes_per_token == 2


@given(length=st.integers(0, 3000), context=st.integers(2, 70))
def test_every_token_is_scored_once_and_in_order(length, context):
    rows = [row for batch in windows(range(1, length + 1), 0, context) for row in batch]

    assert [token for row in rows for token in row[1:]] == list(range(1, length + 1))
    assert all(row[0] == 0 and len(row) <= context for row in rows)


def test_rows_of_a_batch_do_not_touch_each_other(tiny):
    rows = [[0, 5, 6, 7], [0, 9, 9, 9]]

    assert nats_of(tiny.model, rows) == pytest.approx(sum(nats_of(tiny.model, [row]) for row in rows), rel=1e-5)


def test_pieces_come_from_the_middle_of_each_text():
    assert report.middles(["aabbaa", "ccddcc", ""], 6) == ["bb", "dd"]
    assert report.middles(["ab"], 100) == ["ab"]


@pytest.fixture
def data(tmp_path, tiny_folder):
    for name, key in (("novels/eng", "id"), ("peps/peps", "pep")):
        path = tmp_path / f"{name}.jsonl.gz"
        path.parent.mkdir()
        rows = [{key: i, "text": f"{name} {i} " + "some words to score " * 20} for i in range(60)]
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    (tmp_path / "wikitext2").mkdir()
    (tmp_path / "wikitext2" / "test.txt").write_text(" = Title = \n words \n" * 30)
    (tmp_path / "shakespeare").mkdir()
    (tmp_path / "shakespeare" / "by_speaker.jsonl").write_text(json.dumps({"speaker": "A", "turns": ["O!", "Ay."]}))
    (tmp_path / "stories260k").symlink_to(tiny_folder("llama"))
    return tmp_path


def test_the_report_reads_only_what_was_held_out(data):
    sets = report.unseen(data, 10_000)
    trained = [text.text for text in corpus.read(data, "train")]

    assert set(sets) == {"held-out novels", "held-out peps", "WikiText-2 test", "Shakespeare"}
    assert sets["held-out novels"]
    assert not any(piece in text for piece in sets["held-out novels"] + sets["held-out peps"] for text in trained)


def test_the_report_prints_a_table_and_continuations(data, tiny_folder, capsys):
    report.main(["--data", str(data), "--model", str(tiny_folder("llama")), "--bytes", "600"])
    shown = capsys.readouterr()

    assert "Non-overlapping windows" in shown.out
    for line in ("held-out novels", "held-out peps", "WikiText-2 test", "Shakespeare"):
        (row,) = (row for row in shown.out.splitlines() if row.startswith(line))
        first, second = (float(cell) for cell in row[len(line) :].split() if not cell.startswith("("))
        assert first == second > 0  # the same model twice
    assert shown.out.count("This PEP proposes|") == 2
    assert "Shakespeare, stories260k: 100%" in shown.err


def test_the_same_seed_continues_in_the_same_way(tiny):
    assert report.continuation(tiny, "the lazy") == report.continuation(tiny, "the lazy")


def test_the_folder_is_the_one_that_the_name_nano_means():
    assert str(nano.folder()) == resolve_model("nano")


@pytest.fixture(scope="module")
def embedded():
    if not nano.folder().exists():
        pytest.skip("the embedded model has not been trained yet")
    return nano.folder()


def test_the_embedded_weights_are_small_bf16_safetensors(embedded):
    files = {path.name: path.stat().st_size for path in embedded.iterdir()}

    assert files["model.safetensors"] <= 10_000_000
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    with safe_open(embedded / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118  # no mapping


def test_the_embedded_model_is_what_the_model_card_says(embedded):
    config = json.loads((embedded / "config.json").read_text())
    model = report.load("nano", embedded)

    assert config["model_type"] == "llama"
    assert 3_000_000 <= model.parameters <= 4_000_000
    assert len(model.tokenizer) == config["vocab_size"] == 4096
    assert config["max_position_embeddings"] >= 256


@pytest.mark.parametrize("text", ["Grüße, 世界 ☃\n\n\tx = {1: 2}", "plain words", "  leading and trailing  "])
def test_the_embedded_tokenizer_gives_every_text_back(embedded, text):
    tokenizer = AutoTokenizer.from_pretrained(embedded)

    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_embedded_model_knows_english(embedded):
    model = report.load("nano", embedded)
    sentence = "It was late in the evening when she came home, and the servants had already gone to bed."

    assert score(model.model, model.tokenizer, [sentence]).bits_per_byte < 2.4  # letters by their frequency alone: 4.1
