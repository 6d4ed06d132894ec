"""Names in a config, objects in the code: `{name, args}` specs and the table that builds them.

The arguments of a spec are checked against the signature and annotations of what is built, so
that a misspelt key or a string where a number belongs is one sentence, not a traceback.
"""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pydantic

from liif_core.errors import UserError


def nearest_known(name: str, known) -> str:
    """What to say about an unknown `name`: the nearest known one, then all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(known)}"


def explain(error: pydantic.ValidationError, known_at: Callable[[tuple], list[str]], where: str) -> str:
    """The first complaint of pydantic as one sentence; `known_at(path)` lists the keys allowed there."""
    complaints = error.errors()
    # A misspelt key is also a missing one; the misspelling says more.
    complaint = next((one for one in complaints if one["type"] == "extra_forbidden"), complaints[0])
    path = tuple(complaint["loc"])
    key = ".".join(str(part) for part in path)
    if complaint["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}': {nearest_known(str(path[-1]), known_at(path[:-1]))}"
    if complaint["type"] == "missing":
        return f"{where}: key '{key}' is missing"
    value = complaint["input"]
    message = complaint["msg"].removeprefix("Value error, ")
    of_one_key = f"'{key}' is {value!r}: " if key else ""
    return f"{where}: {of_one_key}{message[0].lower()}{message[1:]}"


def keys_at(model: type[pydantic.BaseModel], path: tuple) -> list[str]:
    """The keys that `model` knows at a path like ("data_norm", "inp")."""
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        nested = [o for o in options if isinstance(o, type) and issubclass(o, pydantic.BaseModel)]
        if not nested:
            break
        model = nested[0]
    return list(model.model_fields)


@functools.cache
def _arguments_of(target: Callable) -> type[pydantic.BaseModel]:
    """A pydantic model with one field per parameter of `target`."""
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(target).parameters.values():
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (annotation, default)
    config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return pydantic.create_model("Arguments", __config__=config, **fields)


class Registry:
    """What a spec's `name` may be, for one kind of thing ("model", "data set", "optimizer")."""

    def __init__(self, kind: str):
        self.kind = kind
        self.entries: dict[str, Callable] = {}

    def register(self, name: str) -> Callable[[Callable], Callable]:
        """Decorator that puts a class or function under `name`; a name can be taken once."""

        def add(target: Callable) -> Callable:
            if name in self.entries:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self.entries[name] = target
            return target

        return add

    def arguments(self, spec: dict, **extra: Any) -> dict[str, Any]:
        """The checked arguments, defaults filled in, that `make` would build `spec` with."""
        name, given = spec.get("name"), spec.get("args") or {}
        if set(spec) - {"name", "args"} or not isinstance(name, str) or not isinstance(given, dict):
            raise UserError(f"a {self.kind} is given as {{name: a name, args: {{...}}}}, not as {spec}")
        if name not in self.entries:
            raise UserError(f"unknown {self.kind} '{name}': {nearest_known(name, self.entries)}")
        model = _arguments_of(self.entries[name])
        known = [field for field in model.model_fields if field not in extra]
        for key in extra:
            if key in given:
                raise UserError(f"{self.kind} '{name}': unknown key '{key}': {nearest_known(key, known)}")
        try:
            checked = model.model_validate({**given, **extra})
        except pydantic.ValidationError as error:
            where = f"{self.kind} '{name}'"
            raise UserError(explain(error, lambda path: keys_at(model, path) if path else known, where)) from None
        return {field: getattr(checked, field) for field in model.model_fields}

    def make(self, spec: dict, **extra: Any) -> Any:
        """Build what `spec` describes: `{"name": ..., "args": {...}}`; `extra` joins its arguments.

        Raises UserError for an unknown name, an unknown or missing argument or a wrong type.
        """
        arguments = self.arguments(spec, **extra)
        return self.entries[spec["name"]](**arguments)
