"""`peerd serve` before a real daemon that trains, as clients of OpenAI and Ollama see it: processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

PATIENCE_SECONDS = 600.0  # a base of 135 million parameters, on a machine that is busy
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


class Serving:
    """A `peerd serve` on some port, and the two clients."""

    def __init__(self, home: Any) -> None:
        import ollama
        import openai

        command = home.command("serve", "--json", "--port", "0")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stdout is not None
        data = json.loads("".join(iter(self.process.stdout.readline, "}\n")) + "}")["data"]
        key = Path(data["key_file"]).read_text().strip()
        self.openai = openai.OpenAI(base_url=f"{data['url']}/v1", api_key=key, max_retries=0, timeout=PATIENCE_SECONDS)
        self.ollama = ollama.Client(host=data["url"], headers={"Authorization": f"Bearer {key}"})

    def says(self, model: str, most: int = 12) -> str:
        """Greedily, streamed by OpenAI's interface."""
        asked: Any = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": most, "stream": True}
        chunks = [chunk.choices[0] for chunk in self.openai.chat.completions.create(**asked)]
        assert chunks[-1].finish_reason in {"stop", "length"}
        return "".join(chunk.delta.content or "" for chunk in chunks)

    def until_it_answers(self) -> str:
        import openai

        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.says("personal")
            except openai.InternalServerError as error:
                assert error.status_code == 503  # noqa: PT017  # which others would be is the point
                assert time.monotonic() < deadline
                time.sleep(0.3)

    def end(self) -> int:
        self.openai.close()
        self.ollama.close()
        self.process.send_signal(signal.SIGINT)
        with self.process:
            return self.process.wait(20)


def serve(town: Any, name: str, model: str, **options: Any) -> Iterator[tuple[Any, Serving]]:
    home = town.home(name, model=model, collect_seconds=0.1, **options).start()
    home.until(lambda status: status.worker.state == "training", PATIENCE_SECONDS)
    serving = Serving(home)
    yield home, serving
    if serving.process.returncode is None:
        serving.end()
    home.end()


@pytest.fixture(scope="module")
def nano(town: Any) -> Iterator[tuple[Any, Serving]]:
    yield from serve(town, "nora", "nano", lr=0.01)


def test_both_clients_are_answered_while_it_trains_and_training_goes_on(nano: tuple[Any, Serving]) -> None:
    home, serving = nano
    before = home.status().round
    said = serving.says("base")
    whole = serving.ollama.chat("base", QUESTION, options={"temperature": 0, "num_predict": 12})

    assert [model.id for model in serving.openai.models.list()] == ["personal", "own", "base"]
    assert said
    assert whole.message.content == said
    home.until(lambda status: status.round >= before + 2)


def test_the_newest_adapter_answers_without_a_restart(nano: tuple[Any, Serving]) -> None:
    home, serving = nano
    base, first = serving.says("base", 30), home.status().round
    home.until(lambda status: status.round >= first + 6)

    assert serving.says("base", 30) == base
    assert serving.says("personal", 30) != base


def test_a_worker_that_is_killed_and_a_daemon_that_is_stopped_are_waited_for_by_name(nano: tuple[Any, Serving]) -> None:
    home, serving = nano
    os.kill(home.children()[0], signal.SIGKILL)
    assert serving.until_it_answers()
    assert home.stop() == 0
    home.start()
    assert serving.until_it_answers()
    assert serving.end() == 0


def test_a_base_that_talks_answers_a_question(town: Any, smollm2: Path) -> None:
    for _, serving in serve(town, "sam", str(smollm2), context=64, batch_size=1, guard_tokens=256, trust_tokens=256):
        found = serving.says("base", 40)
        lines = list(serving.ollama.chat("base", QUESTION, stream=True, options={"temperature": 0, "num_predict": 40}))

        assert "Paris" in found
        assert "".join(line.message.content or "" for line in lines) == found
        assert len(lines) > 5
