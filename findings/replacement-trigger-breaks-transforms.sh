#!/usr/bin/env bash
# Pulumi's Python SDK 3.259.0: a resource with the option replacement_trigger, whatever its value, cannot
# pass through a resource transform. A transform that changes nothing, registered for a whole stack, makes
# the registration of each such resource fail; with any other option the same transform passes.
#
# The SDK gives the option back to the engine as a Python value where the protobuf field is a message
# (google.protobuf.Value), so protobuf raises. Seen first with the real engine, as
# "Exception: invoke transform: ... error: Message must be initialized with a dict:
# pulumirpc.TransformResourceOptions"; here without an engine, by what answers the engine's callback.
#
# Seen (Python 3.11, pulumi 3.259.0, protobuf 5.29.6):
#   protect: passes
#   delete_before_replace: passes
#   replacement_trigger: TypeError: Message must be initialized with a dict: ...
#
# Until it is mended: change inputs where resources are made, not in a transform.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pulumi==3.259.0 protobuf==5.29.6 "setuptools<81"

"$folder/venv/bin/python" - <<'PYTHON'
import asyncio

import pulumi
from pulumi.runtime import _callbacks

servicer = next(
    one for one in vars(_callbacks).values() if hasattr(one, "_transformation_resource_options")
)


def answer(**option):
    """What the SDK answers where a transform gives a resource's options back as they were."""
    options = pulumi.ResourceOptions(**option)
    try:
        asyncio.run(servicer._transformation_resource_options(None, options, "resource"))
    except TypeError as error:
        return f"TypeError: {error}"
    return "passes"


told = {
    "protect": answer(protect=True),
    "delete_before_replace": answer(delete_before_replace=True),
    "replacement_trigger": answer(replacement_trigger="an id"),
}
for name, said in told.items():
    print(f"{name}: {said}")
assert told["protect"] == told["delete_before_replace"] == "passes", "the way of asking is wrong"
assert "must be initialized with a dict" in told["replacement_trigger"], "this has changed"
PYTHON
