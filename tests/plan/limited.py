"""Steps whose waits have other limits."""

import re


def limited(text: str, seconds: int, *names: str) -> str:
    """A step's text with so many seconds for these waits, or for all of them."""
    found = re.search(r"^declare -A limits=\(.*\)$", text, re.MULTILINE)
    assert found, "no step's text"
    line = found[0]
    for name in names or re.findall(r"\[([a-z-]+)\]", line):
        line, count = re.subn(rf"\[{name}\]=\d+", f"[{name}]={seconds}", line)
        assert count == 1, name
    return text.replace(found[0], line)
