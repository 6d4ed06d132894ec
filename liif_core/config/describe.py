"""What a config may say, read from signatures, annotations and docstrings, in the words of YAML."""

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pydantic
import yaml
from pydantic.fields import FieldInfo

from liif_core.config.registry import Registry
from liif_core.system.text import title

# Arguments that no config gives: the code that builds the thing passes them.
PASSED = {
    "model": ("in_dim",),
    "wrapper": ("dataset", "seed", "training"),
    "optimizer": ("params",),
    "method": ("backend",),
}
WORDS = {bool: "bool", int: "int", float: "float", str: "str", types.NoneType: "null", Any: "anything"}
SPEC = "{name, args}"
BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


@dataclass(frozen=True)
class Argument:
    """One argument or key: its type in words, and its default, None if it has to be given."""

    name: str
    type: str
    default: str | None
    text: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.type}" + ("" if self.default is None else f" = {self.default}")


@dataclass(frozen=True)
class Entry:
    """A registered name, what kind of thing it is, and what its docstring says."""

    name: str
    kind: str
    arguments: tuple[Argument, ...]
    text: str


def entries(registry: Registry) -> list[Entry]:
    """What a registry holds, by kind and in the order of registration."""
    found = [_entry(registry.kind, name, target) for name, target in registry.entries.items()]
    kinds = list(dict.fromkeys(entry.kind for entry in found))
    return sorted(found, key=lambda entry: kinds.index(entry.kind))


def keys(schema: type[pydantic.BaseModel]) -> list[Argument]:
    """The keys of a config, or of one of its blocks, with the docstring below each field."""
    return [
        _argument(
            name,
            in_words(field.annotation) + _bounds(field.metadata),
            field.is_required(),
            field.default,
            _flat(field.description or ""),
        )
        for name, field in schema.model_fields.items()
    ]


def _entry(kind: str, name: str, target: Callable) -> Entry:
    arguments = tuple(
        _argument(
            parameter.name, in_words(parameter.annotation), parameter.default is parameter.empty, parameter.default
        )
        for parameter in inspect.signature(target).parameters.values()
        if parameter.name not in PASSED.get(kind, ())
    )
    return Entry(name, _kind(kind, target), arguments, _flat(inspect.getdoc(target) or ""))


def _argument(name: str, words: str, required: bool, default: Any, text: str = "") -> Argument:
    if required:
        return Argument(name, words, None, text)
    return Argument(name, words.removesuffix(" or null") if default is None else words, _value(default), text)


def _kind(kind: str, target: Callable) -> str:
    """What a registered thing is: models lie in folders that say it (`models/encoders/`)."""
    if kind != "model":
        return kind
    folder = target.__module__.split(".")[-2]
    if folder == "decoders" and not hasattr(target, "decode_image"):
        return "network in a decoder"
    return folder.removesuffix("s")


def in_words(annotation: Any) -> str:
    """A type as somebody who writes YAML would put it: "int > 0 or null"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is inspect.Parameter.empty:
        return WORDS[Any]
    if annotation in WORDS:
        return WORDS[annotation]
    if origin is typing.Annotated:
        return in_words(arguments[0]) + _bounds(arguments[1:])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(in_words, arguments))
    if origin is typing.Literal:
        return " or ".join(str(one).lower() if isinstance(one, bool) else str(one) for one in arguments)
    if origin is list:
        return f"list of {in_words(arguments[0])}"
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"list of {in_words(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(map(in_words, arguments))}]"
    if annotation is dict or origin is dict:
        return SPEC
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return "{" + ", ".join(annotation.model_fields) + "}"
    raise TypeError(f"no words for the type {annotation}")


def _bounds(constraints: typing.Iterable[Any]) -> str:
    """What constraints such as Gt(gt=0) say: " > 0"."""
    inner = [one for each in constraints for one in (each.metadata if isinstance(each, FieldInfo) else [each])]
    found = [f"{symbol} {getattr(one, name)}" for one in inner for name, symbol in BOUNDS.items() if hasattr(one, name)]
    return f" {' and '.join(found)}" if found else ""


def _value(value: Any) -> str:
    """A default as YAML writes it."""
    if isinstance(value, pydantic.BaseModel):
        value = value.model_dump()
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=1000).split("\n")[0]


def _flat(text: str) -> str:
    return " ".join(text.split())


def caption(model: dict) -> str:
    """What a model is called beside another: the name of its decoder, or, without a function that decodes, its
    encoder's."""
    arguments = model.get("args") or {}
    encoder = arguments.get("encoder_spec") or model
    return title(encoder["name"] if model["name"] == "liif" and not arguments.get("imnet_spec") else model["name"])
