"""OpenAI's interface as the package `openai` uses it, over a fake daemon that repeats what it is asked word by word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.view import FakeView

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def client(running: Any) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key, max_retries=0) as found:
        yield found


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_the_models_are_listed_and_each_says_what_it_is(client: Any) -> None:
    listed = client.models.list().data

    assert [model.id for model in listed] == ["personal", "own", "base"]
    assert client.models.retrieve("base") == listed[2]
    assert "to measure with" in listed[0].description  # the fake's base is nano
    with pytest.raises(openai.NotFoundError, match="personal, own, base"):
        client.models.retrieve("gpt-4o")


def test_a_chat_is_answered_whole(client: Any, served: Any) -> None:
    found = client.chat.completions.create(
        model="own",
        messages=[{"role": "developer", "content": "be brief"}, *user("hello there you")],
        max_completion_tokens=2,
        temperature=0,
        top_p=0.5,
        seed=7,
        stop=["\n"],
    )
    (asked,) = served.view.responses

    assert found.choices[0].message.content == " hello there"
    assert found.choices[0].finish_reason == "length"
    assert found.choices[0].logprobs is None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (3, 2, 5)
    assert (asked.model, asked.max_tokens, asked.temperature, asked.top_p) == ("own", 2, 0.0, 0.5)
    assert (asked.seed, asked.stop, asked.choices, asked.cuts) == (7, ("\n",), None, False)
    assert [(line.role, line.content) for line in asked.chat] == [("system", "be brief"), ("user", "hello there you")]


def test_a_chat_is_streamed_with_its_usage_at_the_end(client: Any) -> None:
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="base", messages=user("a b c"), stream=True, stream_options=options)
    )

    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in chunks[1:-2]] == [" a", " b", " c"]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 6)
    assert len({chunk.id for chunk in chunks}) == 1


def test_parts_of_text_are_read_and_other_parts_refused(client: Any, served: Any) -> None:
    text, picture = {"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}
    client.chat.completions.create(model="base", messages=[{"role": "user", "content": [text, text]}])

    assert served.view.responses[0].chat[0].content == "aa"
    with pytest.raises(openai.BadRequestError, match="image_url"):
        client.chat.completions.create(model="base", messages=[{"role": "user", "content": [text, picture]}])


def test_a_completion_goes_on_with_the_text_as_it_stands(client: Any, served: Any) -> None:
    found = client.completions.create(model="personal", prompt="dear old you", logprobs=2)
    pieces = list(client.completions.create(model="personal:latest", prompt=["dear"], stream=True))
    first, second = served.view.responses

    assert found.choices[0].text == " dear old you"
    assert found.choices[0].logprobs.tokens == [" dear", " old", " you"]
    assert found.choices[0].logprobs.text_offset == [0, 5, 9]
    assert found.choices[0].logprobs.top_logprobs[0] == {" x": -1.5}
    assert [piece.choices[0].text for piece in pieces] == [" dear", ""]
    assert (first.prompt, first.max_tokens, first.chat) == ("dear old you", 16, ())
    assert first.seed != second.seed  # by dice, if none is given


def test_how_likely_tokens_were_is_told_if_asked_for(client: Any) -> None:
    asked = {"model": "base", "messages": user("a \u20ac"), "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**asked).choices[0].logprobs.content
    streamed = [
        token
        for chunk in client.chat.completions.create(**asked, stream=True)
        for token in (chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else [])
    ]

    assert whole == streamed
    assert (whole[1].token, whole[1].logprob, bytes(whole[1].bytes).decode()) == (" \u20ac", -0.5, " \u20ac")
    assert [one.token for one in whole[0].top_logprobs] == [" x", " x"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 1e9}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"stop": ["x"] * 1000}, "stop"),
        ({"stop": ["x" * 10_000]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"logprobs": True, "top_logprobs": 1000}, "choices"),
        ({"seed": 2**64}, None),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tools", "content": "x"}]}, "chat"),
        ({"messages": [{"role": "user", "content": "x"}] * 2000}, "chat"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client: Any, served: Any, wrong: dict[str, Any], named: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{"model": "base", "messages": user("x"), **wrong})

    assert refused.value.type == "invalid_request_error"
    assert named is None or named in refused.value.message
    assert served.view.responses == []


def test_what_only_tunes_and_what_is_huge_is_taken_as_far_as_it_goes(client: Any, served: Any) -> None:
    client.chat.completions.create(
        model="base", messages=user("x"), max_tokens=10**12, n=1, frequency_penalty=0, user="me", extra_body={"k": 1}
    )

    assert served.view.responses[0].max_tokens == 4096


def test_a_worker_that_fails_at_first_is_away_and_one_that_dies_later_ends_the_stream_with_an_error(
    client: Any,
) -> None:
    with pytest.raises(openai.InternalServerError, match="ran out of memory") as refused:
        client.chat.completions.create(model="base", messages=user("fail"))
    assert (refused.value.status_code, refused.value.response.headers["retry-after"]) == (503, "2")
    with pytest.raises(openai.InternalServerError, match="has ended"):
        client.chat.completions.create(model="base", messages=user("break"))
    found = client.chat.completions.create(model="base", messages=user("break"), stream=True)
    told = []
    with pytest.raises(openai.APIError, match="has ended"):
        told.extend(chunk.choices[0].delta.content for chunk in found)


def test_a_daemon_that_is_away_is_asked_again_with_every_question(fresh: Any, start: Any, daemon_of: Any) -> None:
    view = FakeView()
    with start(fresh, view) as served:
        before = served.ask("GET", "/v1/models")
        with daemon_of(fresh, view):
            during = served.ask("GET", "/v1/models")[0]
        after = served.ask("POST", "/api/chat", {"model": "base", "messages": user("x")})
        with daemon_of(fresh, view):
            again = served.ask("POST", "/api/generate", {"model": "base", "prompt": "x", "stream": False})

    assert (before[0], before[1]["retry-after"], before[2]["error"]["code"]) == (503, "2", "not-running")
    assert "peerd start" in before[2]["error"]["message"]
    assert during == 200
    assert after[0] == 503
    assert again[2]["response"] == " x"
