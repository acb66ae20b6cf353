"""How a connection URI of a spec becomes those of the provider and of virsh."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from hypervisors.libvirt import transport

FAR = "qemu+ssh://keeper@192.0.2.7:2222/system"


@pytest.mark.parametrize(
    ("uri", "sshauth"),
    [
        ("qemu:///system", None),
        (FAR, None),
        (f"{FAR}?knownhosts=/hosts", None),
        (f"{FAR}?keyfile=/key", "privkey"),
        (f"{FAR}?keyfile=/key&knownhosts=/hosts", "privkey"),
        (f"{FAR}?keyfile=/key&sshauth=agent", "agent"),
    ],
)
def test_an_agent_does_not_hide_the_key_that_a_uri_names(uri: str, sshauth: str | None) -> None:
    """Findings/libvirt-uri-keyfile-beside-agent.sh shows what the provider does without it."""
    before, after = urlsplit(uri), urlsplit(transport.for_provider(uri))
    assert before._replace(query="") == after._replace(query="")
    given = parse_qs(after.query)
    assert given.pop("sshauth", [None]) == [sshauth]
    assert given == {
        name: values for name, values in parse_qs(before.query).items() if name != "sshauth"
    }


def test_virsh_logs_in_with_the_same_key_to_the_same_host_key() -> None:
    with transport.for_virsh(f"{FAR}?keyfile=/a%20key&knownhosts=/hosts") as uri:
        parts = urlsplit(uri)
        assert parts._replace(query="") == urlsplit(FAR)
        (command,) = parse_qs(parts.query)["command"]
        text = Path(command).read_text()
        assert "-o 'IdentityFile=/a key'" in text
        assert "-o UserKnownHostsFile=/hosts -o GlobalKnownHostsFile=/dev/null" in text
    assert not Path(command).exists()
