"""No default stands twice: what several configurations have in common they take from one section."""

import inspect
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from p2pfinetune.options import LearnerOptions, sections
from p2pfinetune.options.sections import Section
from p2pfinetune.simulation.config import SimulationConfig
from peerd.config import Config
from peerd.core.settings import Settings
from peerd.demo.plan import DemoOptions

WHOLE = (Config, Settings, SimulationConfig, LearnerOptions, DemoOptions)
ANOTHER_MEANING = {
    "DemoOptions.data": "one sub-folder a peer",
    "DemoOptions.peers": "how many",
    "DemoOptions.rounds": "a demo ends",
    "DemoOptions.seed": "of the text dealt, too",
    "DemoOptions.trust": "what shows most on the demo's text",
    "Config.twin": "on, off or auto; the worker settles which, and the library gets yes or no",
    "SettingText.data": "the raw text of the paper's settings",
    "SettingText.peers": "names",
    "Privacy.clip": "of an update, not of a gradient",
    "SimulationConfig.device": "the same figures everywhere, unless told otherwise",
    "SimulationConfig.precision": "likewise",
    "RunOptions.rounds": "a simulation ends",
    "RunOptions.warmup_rounds": "as in the paper",
    "SimulationConfig.seed": "of everything that is drawn",
    "PeerText.shares": "of this peer alone",
    "Timing.kind": "of timing",
    "Topology.kind": "of topology",
    "Attack.kind": "of attack",
    "TrainingChoice.context": "shorter, so that many peers fit on one machine",
}
"""Fields of the same name as another section's, declared anew, and what for."""


def structs_in(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """That one, those it holds and those it is made of."""
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
        yield kind
        for base in (*kind.__bases__, *getattr(kind, "sections", ())):
            yield from structs_in(base)
        for hint in get_type_hints(kind).values():
            yield from structs_in(hint)
    for inner in get_args(kind):
        yield from structs_in(inner)


def declared() -> dict[str, dict[str, Any]]:
    """By name of the field: the classes that declare it, with its default."""
    found: dict[str, dict[str, Any]] = {}
    for kind in {each for whole in WHOLE for each in structs_in(whole)}:
        own = inspect.get_annotations(kind) if "sections" not in vars(kind) else ()
        for field in msgspec.structs.fields(kind):
            if field.name in own and not isinstance(field.default, Section) and not field.required:
                found.setdefault(field.name, {})[kind.__qualname__] = field.default
    return found


def test_no_default_stands_twice_but_for_a_field_that_means_something_else() -> None:
    twice = {name: kinds for name, kinds in declared().items() if len(kinds) > 1}
    repeated = {name: {k for k in kinds if f"{k}.{name}" not in ANOTHER_MEANING} for name, kinds in twice.items()}

    assert {name: kinds for name, kinds in repeated.items() if len(kinds) > 1} == {}
    assert set(ANOTHER_MEANING) <= {f"{kind}.{name}" for name, kinds in twice.items() for kind in kinds}


@pytest.mark.parametrize("kind", sorted({k for w in WHOLE for k in structs_in(w)}, key=str), ids=lambda k: k.__name__)
def test_every_option_is_explained_by_its_type(kind: type[msgspec.Struct]) -> None:
    plain = {name for name, hint in get_type_hints(kind).items() if not any(structs_in(hint))}

    assert plain <= set(sections.described(kind))
