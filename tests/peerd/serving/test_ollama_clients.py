"""Ollama's interface as the package `ollama` uses it, over a fake daemon that repeats what it is asked word by word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

ollama = pytest.importorskip("ollama")


@pytest.fixture(scope="module")
def client(running: Any) -> Iterator[Any]:
    with ollama.Client(host=running.url, headers={"Authorization": f"Bearer {running.key}"}) as found:
        yield found


def test_the_models_are_listed_shown_and_always_loaded(client: Any) -> None:
    listed = client.list().models
    shown = client.show("personal")

    assert [model.model for model in listed] == ["personal:latest", "own:latest", "base:latest"]
    assert len({model.digest for model in listed}) == 3
    assert [model.model for model in client.ps().models] == [model.model for model in listed]
    assert shown.details.parent_model == "nano"
    assert "to measure with" in shown.modelinfo["general.description"]
    assert shown.capabilities == ["completion"]
    assert client.generate("personal").done_reason == "load"
    assert client.chat("personal", []).done_reason == "load"


def test_a_chat_is_answered_whole_and_line_by_line(client: Any, served: Any) -> None:
    messages = [{"role": "system", "content": "brief"}, {"role": "user", "content": "a b c"}]
    whole = client.chat("personal:latest", messages, options={"num_predict": 2, "stop": "x", "seed": 3, "top_k": 9})
    lines = list(client.chat("personal", messages, stream=True))
    asked, usual = served.view.responses

    assert (whole.message.content, whole.done_reason, whole.eval_count) == (" a b", "length", 2)
    assert [line.message.content for line in lines] == [" a", " b", " c", ""]
    assert [line.done for line in lines] == [False, False, False, True]
    assert lines[-1].prompt_eval_count == 3
    assert (asked.model, asked.max_tokens, asked.stop, asked.seed, asked.cuts) == ("personal", 2, ("x",), 3, True)
    assert (usual.temperature, usual.top_p, usual.max_tokens) == (0.8, 0.9, 4096)


def test_a_prompt_is_a_chat_of_one_line_or_gone_on_with_as_it_stands(client: Any, served: Any) -> None:
    found = client.generate("base", "dear you", system="be kind")
    raw = "".join(line.response for line in client.generate("base", "dear you", raw=True, stream=True))
    chat, prompt = served.view.responses

    assert (found.response, raw) == (" dear you", " dear you")
    assert [(line.role, line.content) for line in chat.chat] == [("system", "be kind"), ("user", "dear you")]
    assert (prompt.prompt, prompt.chat) == ("dear you", ())


def test_how_likely_tokens_were_is_told_if_asked_for(client: Any) -> None:
    found = client.generate("base", "a", logprobs=True, top_logprobs=1)

    assert (found.logprobs[0].token, found.logprobs[0].top_logprobs[0].token) == (" a", " x")


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"format": "json"}, "format"),
        ({"images": [b"x"]}, "images"),
        ({"suffix": "x"}, "suffix"),
        ({"think": True}, "think"),
        ({"options": {"temperature": -1}}, "temperature"),
        ({"options": {"num_predict": 0}}, "max_tokens"),
        ({"model": "llama3"}, "personal, own, base"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client: Any, asked: dict[str, Any], named: str) -> None:
    with pytest.raises(ollama.ResponseError, match=named):
        client.generate(**{"model": "base", "prompt": "x", **asked})


def test_errors_are_those_of_ollama(client: Any) -> None:
    with pytest.raises(ollama.ResponseError, match="ran out of memory") as refused:
        client.generate("base", "fail")
    with pytest.raises(ollama.ResponseError) as unknown:
        client.pull("llama3")
    with pytest.raises(ollama.ResponseError, match="has ended"):
        list(client.generate("base", "break", stream=True))

    assert (refused.value.status_code, unknown.value.status_code) == (503, 404)
