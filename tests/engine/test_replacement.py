"""What a preview without a host takes for unchangeable is what the plugin says of itself."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from hypervisors.libvirt.resources import REPLACED_FOR
from lab.toolchain import Toolchain

pytestmark = pytest.mark.engine


def schema(toolchain: Toolchain) -> dict[str, Any]:
    """The schema of the libvirt plugin, asked as the engine asks for it."""
    home = Path(toolchain.environment()["PULUMI_HOME"])
    program = home / "plugins" / "resource-libvirt-v0.5.4" / "pulumi-resource-libvirt"
    process = subprocess.Popen(
        [program, "127.0.0.1:1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **toolchain.environment()},
    )
    try:
        assert process.stdout
        port = int(process.stdout.readline())
        unlimited = [("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=unlimited) as channel:
            stub = provider_pb2_grpc.ResourceProviderStub(channel)
            answer = stub.GetSchema(provider_pb2.GetSchemaRequest(version=0), timeout=600)
        value: dict[str, Any] = json.loads(answer.schema)
        return value
    finally:
        process.kill()
        process.wait()


def test_what_forces_a_replacement_is_what_the_plugin_says(toolchain: Toolchain) -> None:
    provider = schema(toolchain)

    def fixed(one_input: dict[str, Any]) -> bool:
        """Itself, or all that is in it: the console's type, the text of ``xml``."""
        if one_input.get("willReplaceOnChanges"):
            return True
        of = one_input.get("items", one_input).get("$ref", "").removeprefix("#/types/")
        inner = provider["types"].get(of, {}).get("properties", {})
        return bool(inner) and all(
            declared.get("willReplaceOnChanges") for declared in inner.values()
        )

    for kind, keys in REPLACED_FOR.items():
        inputs = provider["resources"][kind]["inputProperties"]
        replaced = {name for name, declared in inputs.items() if fixed(declared)}
        assert keys <= replaced, kind
        # What the program never gives is left out of the table.
        assert replaced - keys <= {"coreosIgnition", "fwCfgName", "tpm"}, kind
