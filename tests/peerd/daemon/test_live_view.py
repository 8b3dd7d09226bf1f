"""What the worker answers, as the interface is told it. The view that tests of the interface use is held to the same."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, get_type_hints

import pytest

from peerd.control.answers import Continuations, ExportedFolder, TestLosses
from peerd.control.handlers import DaemonView
from peerd.control.questions import GenerateQuestion
from peerd.daemon.view import LiveView
from peerd.errors import WorkerError
from peerd.worker import messages
from tests.support.view import FakeView


class Answers:
    """A worker that has one answer."""

    def __init__(self, answer: messages.AnyAnswer) -> None:
        self.answer = answer
        self.jobs: list[messages.AnyJob] = []

    async def call(self, job: messages.AnyJob) -> messages.AnyAnswer:
        self.jobs.append(job)
        return self.answer


def view_of(worker: Answers) -> LiveView:
    nothing: Any = None
    return LiveView(
        paths=nothing,
        shell=nothing,
        journal=nothing,
        worker=worker,
        status=nothing,
        stop=nothing,
        clock=nothing,
        recorder=nothing,
    )


def test_continuations_are_those_of_the_worker_with_their_prompt() -> None:
    worker = Answers(messages.Generated(id=1, base="b", own="o", personal="p", served="s", served_by="best"))
    asked = GenerateQuestion(prompt="Dear all,", max_tokens=3, temperature=0.0, seed=7)
    found = asyncio.run(view_of(worker).generate(asked))

    assert found == Continuations(prompt="Dear all,", base="b", own="o", personal="p", served="s", served_by="best")
    assert worker.jobs == [messages.Generate(id=0, prompt="Dear all,", max_tokens=3, temperature=0.0, seed=7)]


def test_a_folder_is_exported_of_the_model_that_was_asked_for() -> None:
    worker = Answers(messages.Exported(id=1, files=["/x/a"], which="best"))
    found = asyncio.run(view_of(worker).export("/x", "served"))

    assert found == ExportedFolder(folder="/x", files=["/x/a"], which="best")
    assert worker.jobs == [messages.Export(id=0, folder="/x", which="served")]


def test_losses_on_the_test_split_are_those_of_the_worker() -> None:
    figures = {"base": 4.0, "own": 3.0, "personal": 2.0, "twin": None, "served": 2.5, "documents": 12, "tokens": 2048}
    found = asyncio.run(view_of(Answers(messages.TestEvaluated(id=1, **figures))).test_losses())

    assert found == TestLosses(**figures)


@pytest.mark.parametrize("answer", [messages.JobFailed(id=1, code="X", message="no"), messages.Closed(id=1)])
def test_a_job_that_failed_or_was_answered_with_something_else_is_an_error(answer: messages.AnyAnswer) -> None:
    with pytest.raises(WorkerError):
        asyncio.run(view_of(Answers(answer)).test_losses())


@pytest.mark.parametrize("name", [name for name in vars(DaemonView) if name[0] != "_"])
@pytest.mark.parametrize("kind", [LiveView, FakeView])
def test_both_views_take_and_give_what_the_interface_is_promised(kind: type[Any], name: str) -> None:
    promised, method = getattr(DaemonView, name), getattr(kind, name)

    assert list(inspect.signature(method).parameters) == list(inspect.signature(promised).parameters)
    assert get_type_hints(method)["return"] == get_type_hints(promised)["return"]
