"""What a preview of a real cluster tells, and what it must never do."""

import json
from typing import Any

from lab.paths import PROJECT
from ops.reach import secrets_of
from preview.change import Verb
from preview.comparing import changes
from preview.recording import recorded
from preview.review import Review
from preview.reviewing import reviewed
from tests.machine.lab import Lab

PLACES = "/etc /usr/local /opt/cni /var/lib/hardway /var/lib/kubelet/config /root"
"""Where a machine keeps what makes it what it is. Logs and leases change without anybody."""

HELD = (
    f"find {PLACES} -xdev -printf '%p %y %m %u:%g %s %T@ %l\\n' 2>/dev/null | sort; "
    f"find {PLACES} -xdev -type f -size -1024k -exec sha256sum {{}} + 2>/dev/null | sort"
)
CHANGE = {"proxy_mode": "iptables"}


def held(lab: Lab) -> dict[str, str]:
    """Everything that a preview could change: on each machine, and in the state."""
    texts = {name: lab.on(name, HELD) for name in lab.cluster["machines"]}
    assert all(len(text.splitlines()) > 500 for text in texts.values())
    state = lab.paths.backend / ".pulumi" / "stacks"
    texts |= {str(file): file.read_text() for file in state.rglob(f"{lab.stack}.json")}
    assert len(texts) == len(lab.cluster["machines"]) + 1
    return texts


def of_revisions(lab: Lab, **fields: Any) -> Review:
    """What a preview without a host tells of a change of the lab's stack."""
    before = recorded(PROJECT, lab.stack)
    good = lab.cluster
    lab.describe({**good, **fields})
    try:
        after = recorded(PROJECT, lab.stack, before.registrations)
    finally:
        lab.describe(good)
    return reviewed(changes(before.registrations, after.registrations))


def live_preview(lab: Lab, *options: str, **fields: Any) -> dict[str, Any]:
    """The same of the real stack, as ``preview --live --json`` says it."""
    good = lab.cluster
    lab.describe({**good, **fields})
    try:
        value: dict[str, Any] = json.loads(
            lab.hardway("preview", "--live", "--json", *options).stdout
        )
    finally:
        lab.describe(good)
    return value


def with_a_host_and_without_one_they_are_the_same(lab: Lab) -> None:
    live, without = live_preview(lab, **CHANGE), of_revisions(lab, **CHANGE)
    assert {machine["name"]: machine["verb"] for machine in live["machines"]} == {
        change.name: change.verb for change in without.machines
    }
    assert Verb.UPDATE in {change.verb for change in without.machines}
    of_live = {
        (step["resource"], file["path"]): (file["before"], file["after"], file["restarts"])
        for machine in live["machines"]
        for step in machine["steps"]
        for file in step["files"]
    }
    assert of_live == {
        (step.resource, file.path): (file.before, file.after, list(file.restarts))
        for machine in without.machines
        for step in machine.steps
        for file in step.files
    }
    assert of_live
    assert [consequence["sentence"] for consequence in live["consequences"]] == [
        consequence.sentence for consequence in without.consequences
    ]
    assert live["findings"] == []


def it_changes_nothing(lab: Lab) -> None:
    before = held(lab)
    assert live_preview(lab)["counts"].keys() == {"same"}
    live_preview(lab, **CHANGE)
    live_preview(lab, "--refresh")
    lab.pulumi("preview", "--diff")
    lab.hardway("preview")
    after = held(lab)
    for name in before:
        was, now = before[name].splitlines(), after[name].splitlines()
        assert sorted(set(was) ^ set(now)) == [], name


def it_needs_no_running_cluster(lab: Lab) -> None:
    machines = [f"{lab.stack}-{name}" for name in lab.cluster["machines"]]
    for name in machines:
        lab.virsh("suspend", name)
    try:
        assert live_preview(lab)["counts"].keys() == {"same"}
    finally:
        for name in machines:
            lab.virsh("resume", name)
    # Their clocks were held as well and have to catch up, which is a condition.
    lab.hardway("validate", "--wait", "600")


def no_secret_is_told(lab: Lab) -> None:
    """Each secret text of the stack, looked for in everything that was ever printed or kept."""
    state = json.loads(lab.pulumi("stack", "export", "--show-secrets").stdout)
    texts = {line for text in secrets_of(state) for line in text.replace("\\n", "\n").splitlines()}
    secrets = {line for line in texts if len(line) >= 40 and " " not in line}
    assert len(secrets) > 50, "the search below looks for something"
    report, page = lab.folder / "report.md", lab.folder / "report.html"
    good = lab.cluster
    lab.describe({**good, **CHANGE, "dns_domain": good.get("dns_domain", "cluster.local")})
    try:
        lab.hardway("preview", "--live", "--markdown", str(report), "--page", str(page))
        lab.pulumi("preview", "--diff")
        lab.pulumi("preview", "--json", "--show-sames")
    finally:
        lab.describe(good)
    files = [
        *(path for path in lab.paths.backend.rglob("*") if path.is_file()),
        *(path for path in lab.paths.logs.rglob("*") if path.is_file()),
        *(report, page, lab.file),
    ]
    for file in files:
        text = file.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], file
    assert not [secret for secret in secrets if secret in lab.transcript]
