"""What a model says, over the socket, piece by piece."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from p2pfinetune.speech import Begun, ChatLine, Ended, Piece
from peerd import AsyncClient, Client
from peerd.control.spoken_stream import SpokenStream
from peerd.errors import Busy, NotRunning, UsageError, WorkerError
from tests.peerd.control.test_api_events import Watcher


def said(client: Client, *asked: Any, **options: Any) -> list[Any]:
    return list(client.respond(*asked, **options))


def test_a_prompt_and_a_chat_are_answered_piece_by_piece_by_both_clients(daemon: Any, view: Any) -> None:
    async def later() -> list[Any]:
        async with AsyncClient(daemon.paths.home) as client:
            return [one async for one in client.respond("dear old \u20ac", choices=2, stop=["x"])]

    with Client(daemon.paths.home) as client:
        found = said(client, "dear old \u20ac", choices=2, stop=["x"])
        chat = said(client, chat=[ChatLine("system", "x"), ChatLine("user", "hello there")], model="base", max_tokens=1)

    assert isinstance(found[0], Begun)
    assert [piece.text for piece in found[1:-1]] == [" dear", " old", " \u20ac"]
    assert found[1].chances[0].top[0].text == " x"
    assert found[-1] == Ended(reason="stop", prompt_tokens=3, completion_tokens=3)
    assert asyncio.run(later()) == found
    assert "".join(piece.text for piece in chat if isinstance(piece, Piece)) == " hello"
    assert chat[-1].reason == "length"
    assert [asked.model for asked in view.responses] == ["served", "base", "served"]


def test_an_error_before_the_first_piece_is_an_answer_and_a_later_one_the_end(daemon: Any) -> None:
    with Client(daemon.paths.home) as client:
        with pytest.raises(WorkerError, match="ran out of memory") as refused:
            said(client, "fail")
        answer = client.respond("break")
        found = [next(answer), next(answer)]
        with pytest.raises(WorkerError, match="has ended"):
            next(answer)

    assert refused.value.hint == "stop other programs"
    assert [type(one) for one in found] == [Begun, Piece]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"prompt": "a", "chat": [ChatLine("user", "b")]},
        {"prompt": "a", "max_tokens": 10**9},
        {"prompt": "a", "top_p": 0.0},
        {"prompt": "a", "stop": ["x"] * 17},
        {"prompt": "a", "stop": [""]},
        {"prompt": "a", "choices": 21},
        {"prompt": "a", "model": "nobody"},
        {"chat": [ChatLine("user", "b")] * 1025},
    ],
)
def test_what_is_out_of_bounds_is_bad_usage_on_both_sides(home: Any, asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError), Client(home) as client:
        said(client, **asked)


def test_who_leaves_ends_the_answer(daemon: Any, view: Any) -> None:
    with Client(daemon.paths.home) as client:
        for _ in range(20):  # more than have a seat
            for one in client.respond("forever"):
                if isinstance(one, Piece):
                    break
        assert client.status().name == "alice"
    until = time.monotonic() + 20
    while len(view.cancelled) < 20 and time.monotonic() < until:
        time.sleep(0.01)

    assert len(view.cancelled) == 20


def test_beyond_some_at_once_of_a_process_others_are_told_that_it_is_busy(daemon: Any) -> None:
    with Client(daemon.paths.home) as client:
        running = [client.respond("forever") for _ in range(16)]
        for one in running:
            next(one)
        with pytest.raises(Busy, match="wait"):
            said(client, "me too")
        for one in running:
            one.close()


def test_a_daemon_that_stops_ends_what_is_being_said(daemon: Any, view: Any) -> None:
    with Client(daemon.paths.home) as client:
        answer = client.respond("forever")
        assert isinstance(next(answer), Begun)
        daemon.call(view.stop.set)
        with pytest.raises(NotRunning):
            list(answer)


class Listening(Watcher):
    """To one answer."""

    async def hear(self, respond: Any, **options: Any) -> None:
        stream = SpokenStream(respond, stop=None, **options)
        async with asyncio.timeout(20):
            await stream({"type": "http", "state": {"abort": self.abort}}, self.receive, self.send)


def test_who_does_not_read_is_cut_and_the_worker_is_free() -> None:
    async def scenario() -> tuple[Listening, list[str]]:
        listener, story = Listening(), []

        async def respond(tell: Any) -> Ended:
            tell(Begun(prompt_tokens=1))
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                story.append("cancelled")
                raise
            raise AssertionError

        listener.takes.clear()
        await listener.hear(respond, slow_seconds=0.01)
        return listener, story

    listener, story = asyncio.run(scenario())
    assert (listener.aborted, story) == (True, ["cancelled"])


def test_a_daemon_that_stops_before_an_answer_has_begun_says_so() -> None:
    async def scenario() -> list[Any]:
        stop, sent = asyncio.Event(), list[Any]()

        async def respond(_: Any) -> Ended:
            stop.set()
            await asyncio.sleep(1000)
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        stream = SpokenStream(respond, stop=stop)
        never: Any = asyncio.Event()
        await stream({"type": "http", "state": {}}, never.wait, send)
        return sent

    start, body = asyncio.run(scenario())
    assert (start["type"], start["status"]) == ("http.response.start", 503)
    assert b"the daemon stops" in body["body"]


def test_a_sign_of_life_is_given_while_nothing_is_said() -> None:
    async def scenario() -> list[bytes]:
        listener, go_on = Listening(), asyncio.Event()

        async def respond(tell: Any) -> Ended:
            tell(Begun(prompt_tokens=1))
            await go_on.wait()
            return Ended(reason="stop", prompt_tokens=1, completion_tokens=0)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.hear(respond, beat_seconds=0.01))
            while b": still here\n\n" not in listener.sent:
                await listener.next()
            go_on.set()
        return listener.sent

    sent = [message for message in asyncio.run(scenario()) if message != b": still here\n\n"]
    assert [json.loads(message.partition(b"data: ")[2])["kind"] for message in sent[:2]] == ["begun", "ended"]
    assert sent[2:] == [b""]
