"""The openssl program as judge of certificates."""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile


def accepted(
    authority: Path, certificates: Iterable[Path], *options: str, at: datetime
) -> set[Path]:
    """Which of these certificates openssl accepts under an authority, for a purpose, at a time."""
    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(authority)]
    command += ["-attime", str(int(at.timestamp())), *options, *map(str, certificates)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "usage" not in done.stderr.lower(), done.stderr
    return {Path(line.removesuffix(": OK")) for line in done.stdout.splitlines() if ": OK" in line}


@dataclass(frozen=True)
class ShownCertificate:
    """What openssl shows of a certificate as text."""

    text: str

    def field(self, name: str) -> str:
        """What stands on the line of a name."""
        match = re.search(rf"^ *{name} *[:=] *(.*)$", self.text, re.MULTILINE)
        assert match, f"no {name} in {self.text}"
        return match.group(1)

    def name(self, field: str) -> str:
        """A distinguished name, written alike whichever openssl it is."""
        return self.field(field).replace(" = ", "=").replace(", ", ",")

    def date(self, name: str) -> datetime:
        return datetime.strptime(self.field(name), "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)

    def extension(self, name: str) -> tuple[bool, str]:
        """Whether it is critical, and its value."""
        match = re.search(rf"X509v3 {name}: *(critical)?\n *(.*)\n", self.text)
        return (bool(match.group(1)), match.group(2).strip()) if match else (False, "")

    @property
    def serial(self) -> int:
        match = re.search(r"Serial Number:\s+([0-9a-f:]+)", self.text)
        assert match
        return int(match.group(1).replace(":", ""), 16)


def shown(certificates: Iterable[Path]) -> list[ShownCertificate]:
    """What openssl shows of each of these files: one call for all of them."""
    with NamedTemporaryFile("w", suffix=".pem") as together:
        together.writelines(path.read_text() for path in certificates)
        together.flush()
        command = ["openssl", "storeutl", "-noout", "-text", "-certs", together.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [
        ShownCertificate(part) for part in re.split(r"^\d+: Certificate\n", text, flags=re.M)[1:]
    ]
