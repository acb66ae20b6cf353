"""The records of a step's data, which ``scripts/step.sh`` reads on the machine.

A record is a line of fields with a tab between two of them. The first field says what the record
is. Lines of two spaces and a text, after a record, are the lines of its content: of a file, of a
unit, or of a value with several lines. A line of a plan's file is a line of the data, so a preview
of the engine shows the lines that change.
"""

INDENT = "  "
"""Begins each line of a record's content."""

STEP, END = "step", "end"
"""The first and the last record of a step: the first has its name and the scripts that it uses;
without the last one the data are not whole."""

Record = tuple[list[str], str]
"""The fields of a record, and its content."""


def record(*fields: str) -> str:
    """A record without content. Raises ValueError for a field with a tab or a newline."""
    line = "\t".join(fields)
    if "\n" in line or line.count("\t") != len(fields) - 1:
        raise ValueError(f"a field of a record has a tab or a newline: {fields!r}")
    return f"{line}\n"


def content(text: str) -> str:
    """The lines of a record's content.

    Raises ValueError where the text does not end with a newline, has a NUL or has the character
    with which ``scripts/step.sh`` joins the lines.
    """
    if not text.endswith("\n") or "\0" in text or "\1" in text:
        raise ValueError("the content of a file must be text that ends with a newline")
    return "".join(f"{INDENT}{line}\n" for line in text[:-1].split("\n"))


def parsed(data: str) -> list[Record]:
    """The records in the data of a step."""
    records: list[Record] = []
    for line in data.removesuffix("\n").split("\n"):
        if line.startswith(INDENT) and records:
            fields, text = records[-1]
            records[-1] = fields, f"{text}{line.removeprefix(INDENT)}\n"
        else:
            records.append((line.split("\t"), ""))
    return records
