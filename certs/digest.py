"""The digest that a state keeps in place of a long value."""

import json
from hashlib import sha256
from typing import Any


def digest(value: Any) -> str:
    """The SHA-256, in hexadecimal digits, of a text, or of another value as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return sha256(text.encode()).hexdigest()
