"""How options are declared: once, in a section, which says name, type, range, default and help of each of its fields.

A *section* is a frozen struct of options that belong together. What several parts of the project read is one section
that all of them are made of, so that no default and no help stands twice:

    class StepOptions(Section):
        lr: Annotated[float, Meta(gt=0, description="Peak learning rate.")] = 2e-3

    class Config(ModelOptions, StepOptions, ...): ...     # flat, as config.toml is
    class TrainingOptions(StepOptions, ...): ...          # what a trainer is given
    training = of(TrainingOptions, config, total_steps=9) # one out of the other, by the names of the fields

Python cannot inherit from two structs (each lays its fields out from the first byte), so a class with several
sections as bases becomes a struct of its own that has all their fields, and is none of them to `isinstance`. Composing
them instead, as `config.steps.lr`, would have made `config.toml` nested or needed two shapes of every configuration.
A subclass may give a field another default or a narrower type by declaring it again.

Help is `Meta(description=...)`, which `described` reads from the types: no source is parsed. msgspec looks at ranges
when it decodes and not when a struct is made, so what the library is handed by other code calls `check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, dataclass_transform, get_args, get_type_hints

import msgspec

from p2pfinetune.errors import OptionError

AnySection = TypeVar("AnySection", bound="Section")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class _SectionType(msgspec.StructMeta):
    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        choices = {"frozen": True, "kw_only": True, "forbid_unknown_fields": True, **options}
        if len(bases) > 1:
            bases = (super().__new__(mcls, f"_Of{name}", (Section,), _together(bases, namespace), **choices),)
        return super().__new__(mcls, name, bases, namespace, **choices)


def _together(sections: tuple[type, ...], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of all, in their order, as the body of one class."""
    body: dict[str, Any] = {"__module__": namespace["__module__"], "__annotations__": {}, "sections": sections}
    for section in sections:
        hints = get_type_hints(section, include_extras=True)
        for field in msgspec.structs.fields(section):
            if field.name in body["__annotations__"]:
                raise TypeError(f"{field.name} is a field of two sections of {namespace['__qualname__']}")
            body["__annotations__"][field.name] = hints[field.name]
            if field.default is not msgspec.NODEFAULT:
                body[field.name] = field.default
            elif field.default_factory is not msgspec.NODEFAULT:
                body[field.name] = msgspec.field(default_factory=field.default_factory)
    return body


class Section(msgspec.Struct, metaclass=_SectionType):
    """Options that belong together. Frozen, by keyword, and without room for unknown names."""


def of(kind: type[AnySection], source: Any, **others: Any) -> AnySection:
    """A section whose fields are the attributes of `source`, but for `others`; defaults for what it does not have."""
    shared = {name for name in kind.__struct_fields__ if name not in others and hasattr(source, name)}
    return kind(**{name: getattr(source, name) for name in shared}, **others)


def defaults(kind: type[Section]) -> dict[str, Any]:
    """What its fields are if nothing is said."""
    return msgspec.structs.asdict(kind())


def check(section: Section) -> None:
    """Raises OptionError that names the field and what it may be."""
    helps = described(type(section))
    for name, hint in _hints(type(section)).items():
        value = getattr(section, name)
        try:
            msgspec.convert(value, hint)
        except msgspec.ValidationError as error:
            raise OptionError(f"{name} = {value!r}: {error}", helps.get(name, "")) from error


def described(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The help of each field that has one."""
    found = {name: _description(hint) for name, hint in _hints(kind).items()}
    return {name: text for name, text in found.items() if text}


def typed(kind: type[msgspec.Struct], name: str) -> dict[str, Any]:
    """What a command line has to know of a field that can be typed there: its `help`, and `min` and `max` if they are.

    A bound that the value itself may not reach is left to msgspec, since a command line has no words for it.
    """
    metas = _metas(_hints(kind)[name])
    bounds = {bound: value for meta in metas for bound, value in (("min", meta.ge), ("max", meta.le))}
    return {"help": described(kind)[name]} | {bound: value for bound, value in bounds.items() if value is not None}


@cache
def _hints(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _description(hint: Any) -> str:
    return next((meta.description for meta in reversed(_metas(hint)) if meta.description), "")


def _metas(hint: Any) -> list[msgspec.Meta]:
    """Of a field, or of what it is if it is not None: a bound stands on the number, and not on number or None."""
    here = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    return here or [meta for part in get_args(hint) for meta in getattr(part, "__metadata__", ())]
