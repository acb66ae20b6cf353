"""A monitor that keeps every registration with its options, in place of the engine."""

from dataclasses import dataclass, field
from typing import Any

import pulumi
from google.protobuf import json_format
from pulumi import dynamic
from pulumi.runtime import mocks, rpc

from certs.tracked import AuthoritiesProvider, BundleProvider
from components.specification import SpecificationProvider

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
"""The value under the signature key of a secret's envelope on the wire."""

HIDDEN = ("kept", "authorities", "access", "kubeconfig")
"""Inputs of the program's own resources that it gives as secrets."""


@dataclass(frozen=True)
class Registration:
    """One resource as the program asked for it."""

    kind: str
    name: str
    inputs: dict[str, Any]
    request: Any = field(repr=False)


PROVIDERS: dict[str, type[dynamic.ResourceProvider]] = {
    "pulumi-python:dynamic/hardway:Authorities": AuthoritiesProvider,
    "pulumi-python:dynamic/hardway:Certificates": BundleProvider,
    "pulumi-python:dynamic/hardway:Specification": SpecificationProvider,
}
"""Asked to check inputs as the engine does it; none of them touches anything."""


class _Answers(mocks.Mocks):
    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        outputs = dict(args.inputs)
        if provider := PROVIDERS.get(args.typ):
            known = {key: rpc.unwrap_rpc_secret(value) for key, value in outputs.items()}
            checked = provider().check({}, known)
            assert not checked.failures
            outputs = {
                # The engine hides what it gave in a secret, by name.
                key: {SIGNATURE: SECRET, "value": value} if key in HIDDEN else value
                for key, value in checked.inputs.items()
            }
        if args.typ == "pulumi:index:Stash":
            outputs["output"] = args.inputs["input"]
        return f"{args.name}-id", outputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], None]:
        raise AssertionError(f"the program calls {args.token}")


class Recorder(mocks.MockMonitor):
    """Keeps what is registered."""

    def __init__(self) -> None:
        super().__init__(_Answers())
        self.seen: list[Registration] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        inputs = json_format.MessageToDict(request.object)  # type: ignore[no-untyped-call]
        self.seen.append(Registration(request.type, request.name, inputs, request))
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


def is_secret(value: Any) -> bool:
    """Whether a wire value is a secret's envelope."""
    return isinstance(value, dict) and SECRET in value.values()


def record(program: Any, *, stack: str = "dev", config: dict[str, str] | None = None) -> Recorder:
    """Run a program under a recorder and return it once everything is registered."""
    recorder = Recorder()
    pulumi.runtime.set_mocks(_Answers(), project="hardway", stack=stack, monitor=recorder)
    pulumi.runtime.set_all_config(config or {})

    async def wrapped() -> None:
        program()

    pulumi.runtime.test(wrapped)()  # type: ignore[no-untyped-call]
    return recorder
