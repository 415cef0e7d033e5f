"""What the official SDK can ask for, read off its own code: every operation with its address, every field with its type.

The result is committed as crates/server/tests/it/sdk-types.json, where the Rust tests hold the server against it.
Renewed with: target/tools/venv/bin/python tests/sdk/sdk_types.py --write

A type is written as one of: "string", "integer", "number", "boolean", "null", "any"; {"enum": [values]}, {"list": type},
{"map": type of the values}, {"union": [types]}, {"ref": name in `types`}. In `types` a field that ends in "?" may be left out.
"""

import ast
import importlib.metadata
import inspect
import json
import pathlib
import sys
import textwrap
import types
import typing

import openai
import typing_extensions as t
from openai._resource import SyncAPIResource
from openai._utils import PropertyInfo

PLACE = pathlib.Path(__file__).parents[2] / "crates/server/tests/it/sdk-types.json"
# Of these every field is told; of the others only the address.
DOORS = ("responses", "models", "beta.agents")
VERBS = {"_get": "GET", "_get_api_list": "GET", "_post": "POST", "_put": "PUT", "_patch": "PATCH", "_delete": "DELETE"}
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", object: "any", typing.Any: "any"}


class Types:
    def __init__(self):
        self.named = {}

    def read(self, it, sent=None):
        """`sent`: of an object's fields only these; the others are in the address or in a header."""
        if it in PLAIN:
            return PLAIN[it]
        origin, arguments = t.get_origin(it), t.get_args(it)
        if origin in (t.Annotated, t.Required, t.NotRequired):
            return self.read(arguments[0])
        if origin is t.Literal:
            return {"enum": list(arguments)}
        if origin in (typing.Union, types.UnionType):
            return union([self.read(one, sent) for one in arguments])
        if origin is dict:
            return {"map": self.read(arguments[1])}
        if isinstance(it, t.TypeAliasType):
            return self.read(it.__value__)
        if t.is_typeddict(it):
            return {"ref": self.object(it, sent)}
        if len(arguments) == 1:  # An iterable of some sort.
            return {"list": self.read(arguments[0])}
        if origin is None and it is t.get_origin(t.Iterable[str]):
            return {"list": "any"}
        # What else stands there can be written in other ways too: files, models of the client's.
        return "any"

    def object(self, it, sent):
        name = it.__name__
        while name in self.named and self.named[name][0] is not it:
            name += "_"
        if name not in self.named:
            self.named[name] = (it, None)
            fields = {}
            for field, kind in t.get_type_hints(it, include_extras=True).items():
                # Where annotations are text, Python itself does not see what is required.
                required = t.get_origin(kind) is t.Required or field in it.__required_keys__
                optional = "" if required else "?"
                if sent is None or field in sent:
                    fields[alias(kind) or field, optional] = self.read(kind)
            self.named[name] = (it, {field + optional: kind for (field, optional), kind in sorted(fields.items())})
        return name


def alias(kind):
    """The name on the wire, where Python cannot say it."""
    if t.get_origin(kind) in (t.Required, t.NotRequired):
        return alias(t.get_args(kind)[0])
    notes = getattr(kind, "__metadata__", ())
    return next((it.alias for it in notes if isinstance(it, PropertyInfo) and it.alias), None)


def union(kinds):
    flat = []
    for kind in kinds:
        for one in kind["union"] if isinstance(kind, dict) and "union" in kind else [kind]:
            if one not in flat:
                flat.append(one)
    if "string" in flat:  # The known ones of an open list: names of models.
        flat = [it for it in flat if not (isinstance(it, dict) and "enum" in it)]
    return flat[0] if len(flat) == 1 else {"union": flat}


def resources(resource, name=""):
    """Every resource of the client with its name: `beta.agents.sessions`."""
    yield name, type(resource)
    for child, value in inspect.getmembers_static(type(resource)):
        if child.startswith("_") or child.startswith("with_") or not hasattr(value, "__get__") or callable(value):
            continue
        if isinstance(found := getattr(resource, child), SyncAPIResource):
            yield from resources(found, f"{name}.{child}".lstrip("."))


def operations(client, kinds):
    found = {}
    for name, resource in resources(client):
        for method, function in vars(resource).items():
            if name == "" or method.startswith("_") or not inspect.isfunction(function):
                continue
            function = inspect.unwrap(function)
            world = vars(sys.modules[resource.__module__])
            for call in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
                verb = VERBS.get(getattr(getattr(call, "func", None), "attr", None)) if isinstance(call, ast.Call) else None
                path = verb and address(call.args[0])
                if not path:
                    continue
                operation = {"call": f"{name}.{method}"}
                place = (path.removesuffix("?beta=true"), verb)
                if not any(name == it or name.startswith(it + ".") for it in DOORS):
                    found.setdefault(place, operation)
                elif "body" not in found.get(place, {}):
                    operation |= parameters(call, world, kinds)
                    if "Idempotency-Key" in ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function)))):
                        operation["headers"] = ["Idempotency-Key"]
                    found[place] = operation
    return [{"method": verb, "path": path} | it for (path, verb), it in sorted(found.items())]


def address(argument):
    if isinstance(argument, ast.Call):
        argument = argument.args[0]
    return argument.value if isinstance(argument, ast.Constant) else None


def parameters(call, world, kinds):
    """The types that a method's arguments are turned into, for the body and for the query."""
    told = {}
    for place in ("body", "query"):
        for keyword in (it for it in ast.walk(call) if isinstance(it, ast.keyword) and it.arg == place):
            for turned in ast.walk(keyword.value):
                if isinstance(turned, ast.Call) and getattr(turned.func, "id", "") == "maybe_transform":
                    what, kind = turned.args
                    sent = [key.value for key in what.keys] if isinstance(what, ast.Dict) else None
                    told[place] = union([kinds.read(it, sent) for it in choices(kind, world)])
    return told


def choices(node, world):
    if isinstance(node, ast.IfExp):
        return choices(node.body, world) + choices(node.orelse, world)
    return [eval(compile(ast.Expression(node), "<type>", "eval"), world)]


def told():
    kinds = Types()
    listed = operations(openai.OpenAI(api_key="none"), kinds)
    return {
        "package": f"openai {importlib.metadata.version('openai')}",
        "operations": listed,
        "types": {name: fields for name, (_, fields) in sorted(kinds.named.items())},
    }


def written():
    """One line for each operation and each type, so that a change can be read."""
    what = told()
    lines = ["{", f' "package": {json.dumps(what["package"])},', ' "operations": [']
    lines += [",\n".join("  " + json.dumps(it) for it in what["operations"]), " ],", ' "types": {']
    lines += [",\n".join(f"  {json.dumps(name)}: {json.dumps(it)}" for name, it in what["types"].items()), " }", "}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PLACE.write_text(written())
    else:
        print(written(), end="")
