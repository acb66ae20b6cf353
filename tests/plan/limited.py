"""Steps whose waits have other limits."""

import re


def limited(text: str, seconds: int, *names: str) -> str:
    """A step's data, or a text with functions, with so many seconds for these waits or for all."""
    match = re.search(r"^(?:limits\t\d+\t.*|declare -A limits=\(.*\))$", text, re.MULTILINE)
    assert match, "nothing has limits"
    line = match[0]
    for name in names or re.findall(r"([a-z-]+)\]?=\d+", line):
        line, count = re.subn(rf"\b(?<!-)({name}\]?)=\d+", rf"\g<1>={seconds}", line)
        assert count == 1, name
    return text.replace(match[0], line)
