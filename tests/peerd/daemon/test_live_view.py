"""What the worker answers, as the interface is told it. The view that tests of the interface use is held to the same."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest

from p2pfinetune.names import Round
from p2pfinetune.round.figures import ModelFigures
from peerd.control.answers import Continuations, ExportedFolder, Look, TestLosses
from peerd.control.handlers import DaemonView
from peerd.control.questions import EvalQuestion, ExportQuestion, GenerateQuestion
from peerd.daemon import looks
from peerd.daemon.view import LiveView
from peerd.errors import StoreError, WorkerError
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
    worker = Answers(messages.Exported(id=1, files=["/x/a"], which="best", bytes=7))
    asked = ExportQuestion(folder="/x", which="served", format="gguf", modelfile=True)
    found = asyncio.run(view_of(worker).export(asked))

    assert found == ExportedFolder(folder="/x", files=["/x/a"], which="best", format="gguf", bytes=7)
    assert worker.jobs == [messages.Export(id=0, folder="/x", which="served", format="gguf", modelfile=True)]


def test_losses_on_the_test_split_are_those_of_the_worker(tmp_path: Path) -> None:
    figures = {"base": 4.0, "own": 3.0, "personal": 2.0, "twin": None, "served": 2.5, "documents": 12, "tokens": 2048}
    found = asyncio.run(looking_view(tmp_path, Answers(messages.TestEvaluated(id=1, **figures))).test_losses())

    assert found == TestLosses(**figures)


def looking_view(folder: Path, worker: Answers) -> LiveView:
    view = view_of(worker)
    view._paths, view._wall = SimpleNamespace(looks=folder / "looks.json"), lambda: 1_700_000_000.0
    view._status = lambda: SimpleNamespace(round=Round(7))
    return view


def seen(loss: float) -> messages.TextEvaluated:
    figures = dict.fromkeys(("base", "own", "personal", "served"), ModelFigures(loss=loss))
    rest = {"tokens": 8, "documents": 2, "windows": 2, "of_tokens": 9, "of_documents": 2}
    return messages.TextEvaluated(id=1, models=figures, served_by="personal", **rest)


def test_the_test_split_is_measured_once_and_the_first_look_is_what_is_told_until_it_is_asked_for_anew(
    tmp_path: Path,
) -> None:
    worker = Answers(seen(3.0))
    first = asyncio.run(looking_view(tmp_path, worker).evaluate(EvalQuestion()))
    worker.answer = seen(2.0)
    kept = asyncio.run(looking_view(tmp_path, worker).evaluate(EvalQuestion()))  # of another run of the daemon
    asyncio.run(looking_view(tmp_path, worker).evaluate(EvalQuestion(files=("/x",))))
    anew = asyncio.run(looking_view(tmp_path, worker).evaluate(EvalQuestion(again=True)))

    assert (first.models["own"].loss, first.is_kept, first.looks) == (3.0, False, [Look(unix=1_700_000_000.0, round=7)])
    assert (kept.models["own"].loss, kept.is_kept) == (3.0, True)
    assert (anew.models["own"].loss, anew.is_kept, len(anew.looks)) == (2.0, False, 2)
    assert [type(job).__name__ for job in worker.jobs] == ["EvaluateText"] * 3
    assert (tmp_path / "looks.json").stat().st_mode & 0o777 == 0o600


def test_a_report_that_opens_the_test_split_is_a_look_at_it(tmp_path: Path) -> None:
    figures = {"base": 4.0, "own": 3.0, "personal": 2.0, "twin": None, "served": 2.5, "documents": 12, "tokens": 2048}
    asyncio.run(looking_view(tmp_path, Answers(messages.TestEvaluated(id=1, **figures))).test_losses())
    found = asyncio.run(looking_view(tmp_path, Answers(seen(3.0))).evaluate(EvalQuestion()))

    assert (len(found.looks), found.is_kept) == (2, False)


def test_figures_of_a_look_that_cannot_be_written_down_are_not_told(tmp_path: Path) -> None:
    view = looking_view(tmp_path / "gone", Answers(seen(3.0)))

    with pytest.raises(StoreError, match="cannot be written"):
        asyncio.run(view.evaluate(EvalQuestion()))


def test_a_damaged_file_of_looks_is_as_none_and_the_next_look_is_written(tmp_path: Path) -> None:
    (tmp_path / "looks.json").write_bytes(b"{\xff")
    found = asyncio.run(looking_view(tmp_path, Answers(seen(3.0))).evaluate(EvalQuestion()))

    assert len(found.looks) == 1
    assert len(looks.read(tmp_path / "looks.json").looks) == 1


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
