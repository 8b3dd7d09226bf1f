"""What a GGUF is made into, on a real model: the same tokens and words as llama.cpp, which wrote the format."""

from __future__ import annotations

import json
import random
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfinetune.model.from_gguf import converted, record
from p2pfinetune.model.gguf_header import read_header
from scripts import smollm2 as script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TEXTS = (
    "It cost 12345 euros in 2024, and 3.14 isn't 22/7.",
    "def f(x):\n\treturn  x**2  # ünïcödé, 中文, 🙂\r\n",
    "   leading and trailing spaces   ",
    "they're we'll I'd 'tis ''' \"quoted\"",
    "<|im_start|>user\nhello<|im_end|>\n<|endoftext|>",
    "A list:\n\n1. one\n\n2. two, ½ of it  3",  # GPT-2's way makes two tokens of an empty line before a digit
)
CHARACTERS = "0123456789 abcQé.,²½①٣\n\t'\"中🙂-"
QUESTION = [{"role": "user", "content": "What is the capital of France? One word."}]
Ask = Callable[[str, Any], Any]


@pytest.fixture(scope="module")
def base(smollm2: Path) -> Any:
    from p2pfinetune.model.base import load_base

    return load_base(str(smollm2), device="cpu")


@pytest.fixture(scope="module")
def llama(smollm2: Path) -> Ask:
    """A function that asks llama.cpp, which runs the GGUF itself."""
    runner = pytest.importorskip(
        "xllamacpp", reason="llama.cpp IS NOT HERE, so nothing is compared with it: pip install xllamacpp"
    )
    parameters = runner.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.warmup = str(script.gguf_file()), 512, False
    server = runner.Server(parameters)

    def ask(what: str, body: Any) -> Any:
        request = urllib.request.Request(f"{server.listening_address}/{what}", json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        return json.load(urllib.request.urlopen(request))

    return ask


def test_it_loads_has_its_chat_template_and_answers(base: Any) -> None:
    ids = base.tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    answer = base.tokenizer.decode(base.model.generate(ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1] :])

    assert "Paris" in answer
    assert base.title == "Smollm2 135M 8k Lc100K Mix1 Ep2"


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_becomes_the_tokens_that_llama_cpp_makes_of_it(base: Any, llama: Ask, text: str) -> None:
    assert base.tokenizer.encode(text) == llama("tokenize", {"content": text, "add_special": True})["tokens"]


def test_any_texts_become_the_tokens_that_llama_cpp_makes_of_them(base: Any, llama: Ask) -> None:
    dice = random.Random(1)
    texts = ["".join(dice.choice(CHARACTERS) for _ in range(dice.randint(1, 30))) for _ in range(300)]
    apart = [
        t for t in texts if base.tokenizer.encode(t) != llama("tokenize", {"content": t, "add_special": True})["tokens"]
    ]

    assert apart == []


def test_a_conversation_is_written_out_as_llama_cpp_does(base: Any, llama: Ask) -> None:
    ours = base.tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)

    assert ours == llama("apply-template", {"messages": QUESTION})["prompt"]


@pytest.mark.parametrize(
    "text", ["The capital of France is", "In the year 1984 George Orwell", "def add(a, b):\n    return"]
)
def test_what_comes_next_is_as_likely_as_llama_cpp_finds_it(base: Any, llama: Ask, text: str) -> None:
    """It multiplies by activations of eight bits, and so differs by more than the rounding of a conversion."""
    ids = base.tokenizer(text, return_tensors="pt")["input_ids"]
    ours = base.model(ids).logits[0, -1].float().log_softmax(dim=-1)
    asked = {"prompt": text, "n_predict": 1, "n_probs": 10, "temperature": 0.0}
    theirs = llama("completion", asked)["completion_probabilities"][0]["top_logprobs"]
    apart = [abs(float(ours[each["id"]]) - each["logprob"]) for each in theirs]

    assert theirs[0]["id"] == int(ours.argmax()) or apart[0] < 0.15
    assert sum(apart) / len(apart) < 0.15
    assert max(apart) < 0.6


def test_a_block_is_its_steps_times_integers_and_its_offset_rounded_once(smollm2: Path) -> None:
    """Q4_1: 32 weights are d q + m, d and m in fp16, the low halves of 16 bytes first."""
    from safetensors import safe_open

    file = script.gguf_file()
    header = read_header(file)
    (tensor,) = [each for each in header.tensors if each.name == "blk.3.ffn_up.weight"]
    end = max(each.begin + each.size for each in header.tensors)
    data = np.fromfile(file, np.uint8)[-end:] if file.stat().st_size >= end else None
    blocks = data[tensor.begin : tensor.begin + tensor.size].reshape(-1, 20)
    step, offset = (blocks[:, at : at + 2].copy().view(np.float16).astype(np.float32) for at in (0, 2))
    nibbles = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1).astype(np.float32)
    weights = (step * nibbles + offset).astype(np.float16).reshape(tensor.shape)

    with safe_open(smollm2 / "model.safetensors", "np") as stored:
        assert np.array_equal(stored.get_tensor("model.layers.3.mlp.up_proj.weight"), weights)


def test_another_conversion_of_the_same_file_gives_the_same_bytes(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = script.gguf_file()
    monkeypatch.setenv("PEERD_MODELS", str(tmp_path))
    again = converted(file)

    for name in record(smollm2).sizes:
        assert (again / name).read_bytes() == (smollm2 / name).read_bytes(), name
