"""Write down what the published Python SDK of pulumi-libvirt sends and expects, as JSON.

Run it with an interpreter that has the SDK: `python read_sdk.py > sdk-0.5.4.json`. The tests
compare the schema that this plugin serves with that file, so the file must come from the SDK and
never from the plugin. A name that ends in `?` is optional; a list is `[T]`, an object its members.
"""

import importlib.metadata
import inspect
import json
import pkgutil
import re
import sys
import typing
from importlib import import_module

import pulumi
import pulumi_libvirt
from pulumi import _types

SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def hints_of(function: typing.Callable[..., object]) -> dict[str, object]:
    """Type hints of a function, with the names of its module and of Pulumi's own aliases."""
    return typing.get_type_hints(
        function, {**vars(pulumi.output), **vars(sys.modules[function.__module__])}
    )


def is_none(hint: object) -> bool:
    """Whether a hint is that of None."""
    return hint is type(None)


def shape(hint: object) -> object:
    """Shape of one type hint on the wire; an object type becomes the table of its members."""
    if hint in SCALARS:
        return SCALARS[hint]
    if inspect.isclass(hint) and _types.is_input_type(hint):
        return members(hint)
    if inspect.isclass(hint) and _types.is_output_type(hint):
        return members(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        return shape(plain_member(arguments))
    if origin is not None and issubclass(origin, typing.Mapping):
        return {"*": shape(arguments[1])}
    if origin is not None and issubclass(origin, typing.Sequence):
        return [shape(arguments[0])]
    if origin is pulumi.Output:
        return shape(arguments[0])
    raise TypeError(f"no shape for {hint!r}")


def plain_member(arguments: tuple[object, ...]) -> object:
    """The member of a union that is neither None, nor an Output, nor a dict for an object."""
    plain = []
    for hint in arguments:
        origin = typing.get_origin(hint)
        dictionary_twin = inspect.isclass(hint) and hint.__name__.endswith("ArgsDict")
        if (
            is_none(hint)
            or dictionary_twin
            or (inspect.isclass(origin) and issubclass(origin, pulumi.Output))
        ):
            continue
        if inspect.isawaitable(hint) or getattr(origin, "__name__", "") == "Awaitable":
            continue
        plain.append(hint)
    if len(plain) != 1:
        raise TypeError(f"not one plain type in {arguments!r}")
    return plain[0]


def members(owner: type) -> dict[str, object]:
    """Wire name to shape for the properties of an input type, an output type or a resource."""
    table = {}
    for attribute, value in vars(owner).items():
        if not isinstance(value, property):
            continue
        hint = hints_of(value.fget)["return"]
        if typing.get_origin(hint) is pulumi.Output:
            hint = typing.get_args(hint)[0]
        optional = any(is_none(part) for part in typing.get_args(hint))
        name = getattr(value.fget, _types._PULUMI_NAME, attribute)  # noqa: SLF001
        table[name + "?" * optional] = shape(hint)
    return dict(sorted(table.items()))


def function_inputs(function: typing.Callable[..., object], source: str) -> dict[str, object]:
    """Parameters of an invoke, by the wire name under which its body puts them into the call.

    The SDK lets a caller leave out every one of them, so none is marked optional here.
    """
    hints = hints_of(function)
    pairs = re.findall(r"__args__\['(\w+)'\] = (\w+)", source)
    return dict(sorted((wire, shape(hints[parameter])) for wire, parameter in pairs))


def main() -> None:
    """Print the surface of the installed SDK."""
    surface = {
        "version": importlib.metadata.version("pulumi_libvirt"),
        "config": members(pulumi_libvirt.ProviderArgs),
        "resources": {},
        "functions": {},
    }
    for entry in pkgutil.iter_modules(pulumi_libvirt.__path__):
        module = import_module(f"pulumi_libvirt.{entry.name}")
        source = inspect.getsource(module)
        for token in set(re.findall(r"'(libvirt:index/\w+:\w+)',\n", source)):
            name = token.rsplit(":", 1)[1]
            surface["resources"][token] = {
                "inputs": members(getattr(module, name + "Args")),
                "state": members(getattr(module, f"_{name}State")),
                "outputs": members(getattr(module, name)),
            }
        for token in set(re.findall(r"invoke\('(libvirt:index/\w+:\w+)'", source)):
            name = token.rsplit(":", 1)[1]
            function = getattr(module, entry.name)
            surface["functions"][token] = {
                "inputs": function_inputs(function, inspect.getsource(function)),
                "outputs": members(getattr(module, name[0].upper() + name[1:] + "Result")),
            }
    surface["resources"] = dict(sorted(surface["resources"].items()))
    surface["functions"] = dict(sorted(surface["functions"].items()))
    json.dump(surface, sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
