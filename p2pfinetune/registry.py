"""One file adds a plug-in: the file's name is the public name, the class in it is frozen and its fields are options.

A plug-in package holds `_base.py` with the base class and one module per plug-in; `weight_similarity.py` is known to
users as `weight-similarity`. There is no list to add it to, and so none to forget; a name means one class, looked up
exactly. (A chain of `if "dynamic" in name` in the released code of arXiv 2404.09753 runs two of its three schemes as
the third.) Options are the fields of a frozen dataclass, checked in its `__post_init__`, and its docstring is the help.

Modules are imported when first asked for, and none of them may import torch at the top, so that help texts and
configuration checks stay quick.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec

from p2pfinetune.errors import OptionError

Plugin = TypeVar("Plugin")


def public_name(plugin: object) -> str:
    """By which people know the kind of a plug-in: its file's."""
    return type(plugin).__module__.rpartition(".")[2].replace("_", "-")


class Registry(Generic[Plugin]):
    """The plug-ins of one package, by public name."""

    def __init__(self, package: str, base: type[Plugin], kind: str) -> None:
        self._package, self._base, self._kind = package, base, kind

    def names(self) -> tuple[str, ...]:
        """Every public name, sorted."""
        path = importlib.import_module(self._package).__path__
        found = (module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_"))
        return tuple(sorted(name.replace("_", "-") for name in found))

    def find(self, name: str) -> type[Plugin]:
        """The class of that name. Raises OptionError with the names there are."""
        if name not in self.names():
            raise OptionError(f"there is no {self._kind} {name!r}", f"choose one of: {', '.join(self.names())}")
        module = importlib.import_module(f"{self._package}.{name.replace('-', '_')}")
        for _, found in inspect.getmembers(module, inspect.isclass):
            if issubclass(found, self._base) and found.__module__ == module.__name__:
                return found
        raise TypeError(f"{module.__name__} defines no {self._base.__name__}")

    def make(self, name: str, options: Mapping[str, Any] | None = None) -> Plugin:
        """An instance with these options. Raises OptionError for an unknown name, option or value."""
        found, given = self.find(name), dict(options or {})
        known = self.options(name)
        if unknown := sorted(set(given) - set(known)):
            hint = f"its options are: {', '.join(known)}" if known else "it has no options"
            raise OptionError(f"{self._kind} {name!r} has no option {unknown[0]!r}", hint)
        types = get_type_hints(found)
        for option, value in given.items():  # a dataclass takes a word for a number
            try:
                msgspec.convert(value, types[option])
            except msgspec.ValidationError as error:
                raise OptionError(f"{self._kind} {name!r}: {option} = {value!r}: {error}", self.help(name)) from error
        try:
            return found(**given)
        except (TypeError, ValueError) as error:
            raise OptionError(f"{self._kind} {name!r}: {error}", self.help(name)) from error

    def options(self, name: str) -> dict[str, Any]:
        """Option names and their defaults, in the order of the fields."""
        fields = dataclasses.fields(self.find(name))  # type: ignore[arg-type]  # every plug-in is a dataclass
        return {field.name: field.default for field in fields}

    def help(self, name: str) -> str:
        """The docstring of the plug-in."""
        return inspect.getdoc(self.find(name)) or ""
