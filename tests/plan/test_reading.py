"""What is read back from a step's text is what was written into it."""

import pytest

from plan import unit as units
from plan.model import Step
from plan.reading import StepContents, read
from plan.render import text
from plan.things.kind import Text
from plan.things.service import started_with
from tests.plan.golden import NAMES, golden_plan


def steps(name: str) -> list[Step]:
    plan = golden_plan(name)
    return [step for node in plan.nodes.values() for step in node.steps] + list(plan.add_ons)


@pytest.mark.parametrize("name", NAMES)
def test_all_of_a_step_is_read_back(name: str) -> None:
    for step in steps(name):
        read_back = read(text(step, lambda source: f"of {source}\n"))
        assert read_back.files == {
            file.path: Text(file.content, f"{file.mode:04o} {file.owner}") for file in step.files
        } | {
            file.path: Text(f"of {file.source}\n", f"{file.mode:04o} {file.owner}")
            for file in step.secret_files
        } | {service.path: Text(units.text(service), "0600 root:root") for service in step.units}
        assert read_back.needs == {service.name: started_with(service) for service in step.units}
        assert read_back.links == {link.path: link.target for link in step.links}
        assert read_back.artifacts == {
            artifact.name: artifact.archive.digest
            if artifact.archive
            else f"sha256:{artifact.sha256}"
            for artifact in step.artifacts
        }
        things = {label: tuple(names) for label, names in read_back.things.items()}
        assert things.get("directory", ()) == tuple(
            directory.path for directory in step.directories
        )
        assert things.get("package", ()) == step.packages
        assert things.get("user", ()) == step.users
        assert things.get("masked service", ()) == step.masked
        assert read_back.settings == dict(step.settings)
        rule = step.not_newer
        assert read_back.not_newer == tuple(
            f"{server} {rule.version}" for server in (rule.servers if rule else ()) if rule
        )
        assert read_back.shared == tuple(turn.unit for turn in step.turns)
        assert read_back.outcome == step.outcome


@pytest.mark.parametrize("strange", ["", "{", "echo hello\n", "cat >x <<'END'\n", "a='\nb\n"])
def test_a_text_that_is_no_step_is_a_script(strange: str) -> None:
    assert read(strange).files == {}


def test_a_setting_of_several_lines_and_a_file_with_every_ending_are_read() -> None:
    from plan.model import File

    hostile = "END\nEND-END\nfile 0600 root:root /x\nunit y <<'END'\n"
    step = Step(
        name="s",
        files=(File(path="/it's a file", content=hostile),),
        settings={"some": "two\nlines 'quoted'", "other": ""},
        script="etcd",
    )
    read_back = read(text(step))
    assert read_back.files == {"/it's a file": Text(hostile, "0600 root:root")}
    assert read_back.settings == {"some": "two\nlines 'quoted'", "other": ""}


READYZ = "https://192.168.1.10:2381/readyz https://192.168.1.11:2381/readyz"

OF_THE_RELEASE_BEFORE = """\
{
umask 077
mkdir -p /var/lib/hardway/steps
cat >/var/lib/hardway/steps/.etcd.$$ <<'END-END'
rounds=400 quiet=10000
file() {
    content=$(</dev/stdin)
}
lock_at https://192.168.1.10:2379 /etc/ca.crt /etc/client.crt /etc/client.key
shared etcd.service /etc/ca.crt @readyz@
not_newer /usr/local/bin/kubelet /srv/kubelet v1.37.1 /etc/kubeconfig https://192.168.1.10:6443
alone
packages ethtool iptables
artifact etcd aaaa 0555 http://mirror/etcd
archived flanneld sha256:bbbb a/flanneld 0555 http://mirror/flannel
directory 0700 etcd:etcd '/var/lib/it'"'"'s'
file 0640 root:etcd /etc/some <<'END'
one
file 0600 root:root /no/file
END
link /usr/local/bin/etcd /srv/etcd
masked swap.target
unit etcd.service /usr/local/bin/etcd /etc/some <<'END'
[Unit]
END
settle
endpoint=https://192.168.1.10:2379
images='one two
three'
outcome='etcd 3.7.1, healthy'
unlocked
echo "$outcome"
END-END
mv /var/lib/hardway/steps/.etcd.$$ /var/lib/hardway/steps/etcd
exec bash -euo pipefail /var/lib/hardway/steps/etcd </dev/null
}
"""


def test_a_step_of_the_release_before_this_one_is_read() -> None:
    assert read(OF_THE_RELEASE_BEFORE.replace("@readyz@", READYZ)) == StepContents(
        files={
            "/etc/some": Text("one\nfile 0600 root:root /no/file\n", "0640 root:etcd"),
            "/etc/systemd/system/etcd.service": Text("[Unit]\n", "0600 root:root"),
        },
        needs={"etcd.service": ("/usr/local/bin/etcd", "/etc/some")},
        things={
            "link": {"/usr/local/bin/etcd": "/srv/etcd"},
            "directory": {"/var/lib/it's": "0700 etcd:etcd"},
            "artifact": {"etcd": "sha256:aaaa", "flanneld": "sha256:bbbb"},
            "package": {"ethtool": "", "iptables": ""},
            "masked service": {"swap.target": ""},
        },
        settings={"endpoint": "https://192.168.1.10:2379", "images": "one two\nthree"},
        not_newer=("https://192.168.1.10:6443 v1.37.1",),
        shared=("etcd.service",),
        turns=(
            "https://192.168.1.10:2379 /etc/ca.crt /etc/client.crt /etc/client.key",
            f"etcd.service /etc/ca.crt {READYZ}",
        ),
        outcome="etcd 3.7.1, healthy",
    )
