"""A state as ``pulumi stack export --show-secrets`` gives it."""

import json
from collections.abc import Mapping
from typing import Any

from preview.registration import SECRET, SIGNATURE


def hidden(value: Any) -> dict[str, str]:
    """A secret that is shown."""
    return {SIGNATURE: SECRET, "plaintext": json.dumps(value)}


def exported(*resources: tuple[str, str, Mapping[str, Any]]) -> dict[str, Any]:
    """A state of resources, each a kind, a name and its secret outputs.

    The kinds of those that hold a resource stand before its own, as in a URN (``A$B``).
    """
    return {
        "deployment": {
            "resources": [
                {
                    "urn": f"urn:pulumi:dev::hardway::{kind}::{name}",
                    "type": kind.rpartition("$")[2],
                    "outputs": {key: hidden(value) for key, value in secret.items()},
                }
                for kind, name, secret in resources
            ]
        }
    }
