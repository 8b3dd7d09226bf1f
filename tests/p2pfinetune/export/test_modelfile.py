"""What a chat template puts around turns, and the Modelfile that says it in Ollama's words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader
from transformers import AutoTokenizer

from p2pfinetune.data.chats.template import SIMPLE
from p2pfinetune.errors import ExportError
from p2pfinetune.export.gguf_tokenizer import MARKS_OF_TRAINING
from p2pfinetune.export.modelfile import go_template
from p2pfinetune.export.stored import Exportable
from p2pfinetune.export.turns import Surroundings, turns_of
from p2pfinetune.export.writing import write_export
from tests.support.models import tiny_tokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_A_SYSTEM_OF_ITS_OWN = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}" + CHATML
)
LLAMA_3 = (
    "{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
SYSTEM_INSIDE_THE_QUESTION = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{% set ns = message['content'] %}{% else %}"
    "[{{ message['role'] }}] {{ message['content'] }} {% endif %}{% endfor %}"
)
DATED = "{{ messages | length }}" + CHATML
REFUSING = "{{ raise_exception('no system turns here') }}"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer(["a b"], 300)


def asked(tokenizer: Any, template: str | None) -> Any:
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("template", "around_user", "system"),
    [
        (CHATML, ("<|im_start|>user\n", "<|im_end|>\n"), ""),
        (WITH_A_SYSTEM_OF_ITS_OWN, ("<|im_start|>user\n", "<|im_end|>\n"), "Be kind."),
        (LLAMA_3, ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"), ""),
        (None, ("User: ", "\n\n"), ""),
    ],
    ids=["ChatML", "with a system turn of its own", "Llama 3", "the simple one, as there is none"],
)
def test_a_template_that_only_surrounds_turns_is_found_out(
    tokenizer: Any, template: str | None, around_user: tuple[str, str], system: str
) -> None:
    found = turns_of(asked(tokenizer, template))
    talk = [("user", "Hi {{"), ("assistant", "Hello"), ("user", "Bye")]

    assert found.around["user"] == around_user
    assert found.system == system
    messages = [{"role": role, "content": text} for role, text in talk]
    expected = tokenizer.apply_chat_template(
        messages, chat_template=template or SIMPLE, tokenize=False, add_generation_prompt=True
    )
    assert found.rendered(talk) == expected


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (SYSTEM_INSIDE_THE_QUESTION, "leaves turns out"),
        (DATED, "does more"),
        (REFUSING, "refuses a conversation: no system turns here"),
    ],
    ids=["system inside", "counts", "refuses"],
)
def test_a_template_that_does_more_is_told_with_the_reason(tokenizer: Any, template: str | None, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        turns_of(asked(tokenizer, template))


def test_what_ollama_would_read_as_its_own_is_not_written() -> None:
    plain = {"system": ("<s>", ""), "user": ("<u>", "\n"), "assistant": ("<a>", "\n")}

    assert go_template(Surroundings(plain, "<a>")) == (
        '{{ range .Messages }}{{ if eq .Role "system" }}<s>{{ .Content }}{{ else if eq .Role "assistant" }}<a>'
        "{{ .Content }}\n{{ else }}<u>{{ .Content }}\n{{ end }}{{ end }}<a>"
    )
    with pytest.raises(ExportError, match="braces or quotes"):
        go_template(Surroundings({**plain, "user": ("{{ .System }}", "")}, "<a>"))


def test_a_modelfile_names_what_was_written_beside_it(trained: Callable[[str], Exportable], tmp_path: Path) -> None:
    llama = trained("llama")
    before = llama.base.tokenizer.chat_template
    llama.base.tokenizer.chat_template = WITH_A_SYSTEM_OF_ITS_OWN
    try:
        texts = {}
        for form in ("gguf", "gguf-lora", "merged"):
            files = write_export(llama, tmp_path / form, form, modelfile=True)
            texts[form] = next(file for file in files if file.name == "Modelfile").read_text()
        llama.base.tokenizer.chat_template = None
        write_export(llama, tmp_path / "bare", "merged", modelfile=True)
    finally:
        llama.base.tokenizer.chat_template = before

    assert texts["gguf"].startswith('FROM ./model.gguf\nTEMPLATE """{{ range .Messages }}')
    assert texts["merged"].startswith("FROM .\n")
    assert "FROM ./base.gguf\nADAPTER ./adapter.gguf\n" in texts["gguf-lora"]
    assert "peerd export DIR --which base --format gguf" in texts["gguf-lora"]
    assert 'SYSTEM """Be kind."""\nPARAMETER stop "<|end|>"\nPARAMETER stop "<|im_end|>"\n' in texts["gguf"]
    bare = (tmp_path / "bare" / "Modelfile").read_text()
    assert 'PARAMETER stop "<|end|>"\nPARAMETER stop "User:"\n' in bare
    assert AutoTokenizer.from_pretrained(tmp_path / "bare").chat_template == SIMPLE
    assert template_in(tmp_path / "gguf" / "model.gguf") == WITH_A_SYSTEM_OF_ITS_OWN


def template_in(file: Path) -> str:
    found: str = GGUFReader(file).fields["tokenizer.chat_template"].contents()
    return found


def test_marks_of_training_are_comments_in_a_gguf() -> None:
    told = MARKS_OF_TRAINING.sub(r"{#\1#}", SIMPLE)

    assert "{#- generation #}" in told
    assert "{#- endgeneration #}" in told
    assert "{%- generation" not in told
