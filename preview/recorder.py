"""A monitor that stands in for the engine and records every registration with its options.

``python -P recorder.py`` runs the Pulumi program of the current folder. That program may be of
another revision, so this module imports nothing else of the project. It reads a ``Request`` as JSON
from standard input and writes an ``Answer`` as JSON to standard output. Secrets stay in their
envelopes, which do not encrypt them, so the caller must keep request and answer private.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict, cast

import dill  # type: ignore[import-untyped]
import pulumi
from google.protobuf import json_format
from pulumi.runtime import mocks, rpc
from pulumi.runtime.proto import resource_pb2

PROVIDER = "__provider"
STASH = "pulumi:index:Stash"


class Registered(TypedDict):
    """The fields of ``preview.registration.Registration``."""

    kind: str
    name: str
    custom: bool
    inputs: dict[str, Any]
    parent: str
    parent_kind: str
    dependencies: list[str]
    provider: str
    version: str
    deleted_with: str | None
    replacement_trigger: Any
    protect: bool
    ignore_changes: list[str]
    replace_on_changes: list[str]
    additional_secret_outputs: list[str]
    delete_before_replace: bool
    timeouts: dict[str, str]
    serialized: str


class Request(TypedDict):
    """The stack and configuration to run the program with, and the earlier registrations."""

    stack: str
    config: dict[str, str]
    held: list[Registered]


class Answer(TypedDict):
    """The resources that the program registers; ``error`` is the reason where there are none."""

    registered: list[Registered]
    refused: dict[str, list[str]]
    """The URN of a resource, mapped to the sentences with which its provider refuses it."""
    error: str | None


class Recorder(mocks.MockMonitor):
    """Answers as the engine would in a first update, or in an update of the resources ``held``.

    As the engine does, it has the program's dynamic providers check their inputs, and passes the
    inputs that they checked before. No provider of the project changes anything in its check.
    """

    def __init__(self, held: Iterable[Registered] = ()) -> None:
        super().__init__(cast("mocks.Mocks", None))
        self.held = {
            (registered["parent_kind"], registered["kind"], registered["name"]): registered
            for registered in held
        }
        self.seen: list[Registered] = []
        self.refused: dict[str, list[str]] = {}

    def Invoke(self, request: Any) -> Any:  # noqa: N802
        raise RuntimeError(f"the program calls {request.tok}, which a preview cannot answer")

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == "pulumi:pulumi:Stack":
            return resource_pb2.RegisterResourceResponse(urn=urn)
        inputs = _value(request.object)
        before = self.held.get((_kind(request.parent), request.type, request.name))
        if before:
            for key in request.ignoreChanges:
                inputs.pop(key, None)
                if key in before["inputs"]:
                    inputs[key] = before["inputs"][key]
        serialized = _opened(inputs.pop(PROVIDER, ""))
        if serialized:
            inputs = self._checked(urn, serialized, inputs, before)
        self.seen.append(_registered(request, inputs, serialized))
        outputs = dict(inputs)
        if request.type == STASH:
            outputs["output"] = inputs["input"]
        given = resource_pb2.RegisterResourceResponse().object
        json_format.ParseDict(outputs, given)  # type: ignore[no-untyped-call]
        identifier = f"{request.type}/{request.name}" if request.custom else ""
        return resource_pb2.RegisterResourceResponse(urn=urn, id=identifier, object=given)

    def _checked(
        self, urn: str, serialized: str, news: dict[str, Any], before: Registered | None
    ) -> dict[str, Any]:
        """The inputs after the provider's check; an input that was secret stays secret."""
        provider = dill.loads(base64.b64decode(serialized))  # noqa: S301  # just pickled
        olds = _opened(before["inputs"]) if before else {}
        result = provider.check(olds, _opened(news))
        if result.failures:
            self.refused[urn] = [failure.reason for failure in result.failures]
        return {
            key: _envelope(value) if rpc.is_rpc_secret(news.get(key)) else value
            for key, value in result.inputs.items()
        }


def _envelope(value: Any) -> dict[str, Any]:
    return dict(rpc.wrap_rpc_secret(value))


def _opened(value: Any) -> Any:
    """A value from the wire without secret envelopes, as a dynamic provider receives it."""
    if rpc.is_rpc_secret(value):
        return _opened(rpc.unwrap_rpc_secret(value))
    if isinstance(value, Mapping):
        return {key: _opened(item) for key, item in value.items()}
    return [_opened(item) for item in value] if isinstance(value, list) else value


def _registered(request: Any, inputs: dict[str, Any], serialized: str) -> Registered:
    limits = request.customTimeouts
    return {
        "kind": request.type,
        "name": request.name,
        "custom": bool(request.custom),
        "inputs": inputs,
        "parent": _name(request.parent),
        "parent_kind": _kind(request.parent),
        "dependencies": sorted({_name(urn) for urn in request.dependencies}),
        "provider": _name(request.provider.rpartition("::")[0]),
        "version": request.version,
        "deleted_with": _name(request.deletedWith) or None,
        "replacement_trigger": _value(request.replacement_trigger),
        "protect": bool(request.protect),
        "ignore_changes": list(request.ignoreChanges),
        "replace_on_changes": list(request.replaceOnChanges),
        "additional_secret_outputs": list(request.additionalSecretOutputs),
        "delete_before_replace": bool(request.deleteBeforeReplace),
        "timeouts": {
            key: getattr(limits, key)
            for key in ("create", "update", "delete")
            if getattr(limits, key)
        },
        "serialized": serialized,
    }


def _value(message: Any) -> Any:
    """A protobuf message as a Python value."""
    return json_format.MessageToDict(message)  # type: ignore[no-untyped-call]


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def _kind(urn: str) -> str:
    return urn.rpartition("::")[0].rpartition("::")[2].rpartition("$")[2]


def record(
    program: Callable[[], object],
    *,
    stack: str = "dev",
    config: Mapping[str, str] | None = None,
    held: Iterable[Registered] = (),
) -> Recorder:
    """Run a program under a new recorder and return the recorder when the program has ended.

    Raises what the program raises.
    """
    recorder = Recorder(held)
    # Pulumi requires an event loop of the thread, and ``asyncio.run`` leaves none behind.
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(
        cast("mocks.Mocks", None), project="hardway", stack=stack, monitor=recorder
    )
    pulumi.runtime.set_all_config(dict(config or {}))

    async def wrapped() -> None:
        program()

    pulumi.runtime.test(wrapped)()  # type: ignore[no-untyped-call]
    return recorder


def _ended(error: Exception) -> str:
    """One line about an exception other than a RunError."""
    lines = [line.strip() for line in str(error).splitlines()]
    # The last line of a Pydantic error is a URL of its documentation.
    message = " ".join(line for line in lines if line and "further information" not in line)
    return f"its program ends with {type(error).__name__} ({message})"


def main() -> None:
    """Answer one request about the program of the current folder."""
    answers, sys.stdout = sys.stdout, sys.stderr  # prints must not mix with the answer
    request: Request = json.load(sys.stdin)
    sys.path.insert(0, ".")
    from components.stack import declare

    answer: Answer = {"registered": [], "refused": {}, "error": None}
    try:
        recorder = record(
            declare, stack=request["stack"], config=request["config"], held=request["held"]
        )
    except pulumi.RunError as error:
        answer["error"] = str(error)
    except Exception as error:  # another revision may raise anything
        answer["error"] = _ended(error)
    else:
        answer["registered"], answer["refused"] = recorder.seen, recorder.refused
    json.dump(answer, answers)


if __name__ == "__main__":
    main()
