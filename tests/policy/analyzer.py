"""The policy pack as Pulumi's engine has it: a process of its own, asked over gRPC."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf import json_format
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from lab.paths import PROJECT
from preview.registration import Registration

PACK = PROJECT / "policy" / "pack"


def urn(resource: Registration) -> str:
    return f"urn:pulumi:dev::hardway::{resource.kind}::{resource.name}"


@contextmanager
def started(log: Path) -> Iterator[analyzer_pb2_grpc.AnalyzerStub]:
    """The pack, started as the language host does it: the engine's address, then the folder."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "pulumi.policy", "127.0.0.1:1", str(PACK)],
            cwd=log.parent,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port.isdecimal(), log.read_text()
            options = [("grpc.max_receive_message_length", 2**26)]
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
                yield analyzer_pb2_grpc.AnalyzerStub(channel)
        finally:
            process.terminate()
            process.wait(timeout=600)


def _struct(value: Any) -> Any:
    given = analyzer_pb2.AnalyzeRequest().properties
    return json_format.ParseDict(value, given)  # type: ignore[no-untyped-call]


def _seconds(limit: str) -> float:
    return float(limit[:-1]) * {"s": 1, "m": 60}[limit[-1]]


def _shown(resource: Registration) -> dict[str, Any]:
    """What the engine tells of a resource: without ``deleted_with``, and what was before."""
    limits = {name: _seconds(limit) for name, limit in resource.timeouts.items()}
    provider = None
    inputs = dict(resource.inputs)
    if resource.kind.startswith("pulumi:providers:"):
        inputs["version"] = resource.version
    elif resource.custom:
        plugin = resource.kind.partition(":")[0]
        provider = analyzer_pb2.AnalyzerProviderResource(
            type=f"pulumi:providers:{plugin}",
            name=resource.provider or "default",
            properties=_struct({"version": resource.version} if resource.version else {}),
        )
    return {
        "type": resource.kind,
        "name": resource.name,
        "urn": urn(resource),
        "properties": _struct(inputs),
        "provider": provider,
        "options": analyzer_pb2.AnalyzerResourceOptions(
            protect=resource.protect,
            ignoreChanges=resource.ignore_changes,
            additionalSecretOutputs=resource.additional_secret_outputs,
            customTimeouts=analyzer_pb2.AnalyzerResourceOptions.CustomTimeouts(**limits),
        ),
    }


def analyzed(stub: analyzer_pb2_grpc.AnalyzerStub, resource: Registration) -> Any:
    """What the pack says of a resource, asked twice as the engine does: to mend it, then of it."""
    request = analyzer_pb2.AnalyzeRequest(**_shown(resource))
    mended = stub.Remediate(request)
    assert not mended.remediations, "it changes nothing"
    return stub.Analyze(request)


def analyzed_stack(stub: analyzer_pb2_grpc.AnalyzerStub, all_of_them: Any) -> Any:
    """What the pack says of the whole stack."""
    resources = [analyzer_pb2.AnalyzerResource(**_shown(resource)) for resource in all_of_them]
    return stub.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=resources))
