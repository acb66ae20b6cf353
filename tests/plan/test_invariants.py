"""What holds for every machine of every golden cluster."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from certs.table import Authority, Row, Use, held_by
from plan import addons, flannel, layout, library, render
from plan.cluster import cluster_plan, node_plan
from plan.limits import HARD, LIMITS
from plan.model import (
    BIN,
    AuthorityCertificate,
    AuthorityKey,
    Certificate,
    File,
    NodePlan,
    PrivateKey,
    SecretFile,
    ServiceAccountKey,
    SigningCertificate,
    Source,
    Step,
)
from plan.reading import read
from spec.cluster import Cluster, parse
from tests.plan.golden import NAMES, golden_plan, golden_spec
from tests.plan.shell import cluster
from tests.plan.view import View

VIEWS = [
    View(name, golden_spec(name), plan)
    for name in NAMES
    for plan in golden_plan(name).nodes.values()
]
every_machine = pytest.mark.parametrize("machine", VIEWS, ids=str)
every_node = pytest.mark.parametrize(
    "machine", [view for view in VIEWS if view.plan.node in view.spec.nodes], ids=str
)


# -- scripts --------------------------------------------------------------------------------------


def test_no_two_scripts_have_a_function_of_the_same_name() -> None:
    """A step reads several into one shell, in which the last one counts for all of them."""
    defined = Counter(
        name
        for script in library.names()
        for name in set(re.findall(r"^([a-z_0-9]+)\(\)", library.script(script), re.MULTILINE))
    )
    assert {"await", "await_api", "all"} <= defined.keys()
    assert not [name for name, number in defined.items() if number > 1]


# -- programs, files -------------------------------------------------------------------------------


@every_machine
def test_each_service_runs_the_program_of_its_own_name(machine: View) -> None:
    of_distribution = {
        "haproxy": "/usr/sbin/haproxy",
        "keepalived": "/usr/sbin/keepalived",
        "systemd-timesyncd": "/usr/lib/systemd/systemd-timesyncd",
        "hardway-backup.timer": "hardway-backup.service",  # a timer's is what it starts
        "docker": "dockerd",  # in another directory on Debian than on Ubuntu
    }
    links = {link.path for step in machine.plan.steps for link in step.links}
    for name, unit in machine.units.items():
        assert unit.program == of_distribution.get(name, f"{BIN}/{name}")
        assert unit.program in links or name in of_distribution


@every_machine
def test_each_program_link_points_to_the_artifact_of_its_name(machine: View) -> None:
    stored = {artifact.store_path: artifact for artifact in machine.plan.artifacts}
    for step in machine.plan.steps:
        for link in step.links:
            if link.path.startswith(f"{BIN}/"):
                assert stored[link.target].name == PurePosixPath(link.path).name
                assert stored[link.target].kind == "binary"


MADE_ON_THE_MACHINE = (
    *("/run/", "/var/log/", "/sys/", "/proc/", "/var/lib/", "/usr/lib/systemd/"),
    *("/usr/share/", "/opt/cni"),
    "/etc/kubernetes/resolv.conf",  # a link to the one that the host uses (runtime.sh)
    "/coreos.com/",  # a key of etcd
)


@every_machine
def test_each_file_that_a_flag_or_a_setting_names_is_in_the_plan(machine: View) -> None:
    for name, unit in machine.units.items():
        named = {*unit.flags.values(), *unit.arguments}
        if unit.flags.get("config", "").startswith("/") and name.startswith("kube"):
            named |= set(_strings(machine.config(name)))
        for path in named:
            for value in path.split(",") if path.startswith("/") else ():
                file = value.split(":")[0]
                assert file in machine.entries or file.startswith(MADE_ON_THE_MACHINE), (
                    f"{name}: {file}"
                )


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _strings(item)
        case list():
            for item in value:
                yield from _strings(item)


@every_machine
def test_each_path_and_each_unit_is_said_once(machine: View) -> None:
    paths = [item.path for item in machine.plan.files]
    paths += [item.path for item in machine.plan.secret_files]
    paths += [item.path for item in machine.plan.units]
    files = Counter(paths)
    # A small program may come with each step that needs it, as the same file.
    same = {
        path
        for path, count in files.items()
        if count > 1 and len({file for file in machine.plan.files if file.path == path}) == 1
    }
    assert {path for path, count in files.items() if count > 1} == same
    assert all(path.startswith("/") and ".." not in path for path in files)


@every_machine
def test_each_structured_file_can_be_read(machine: View) -> None:
    for file in machine.plan.files:
        match PurePosixPath(file.path).suffix:
            case ".yaml" | ".yml":
                assert list(yaml.safe_load_all(file.content)) != [None], file.path
            case ".json" | ".conflist":
                json.loads(file.content)


@every_machine
def test_what_a_service_needs_restarts_it_or_is_read_again(machine: View) -> None:
    """Each file of the plan that a flag names is among those that the service knows in a way."""
    for unit in machine.units.values():
        for value in unit.flags.values():
            entry = machine.entries.get(value)
            if isinstance(entry, File | SecretFile) and value.startswith("/etc/"):
                assert (value in unit.needs) != (value in unit.reads), f"{unit.name} {value}"


WRITTEN_ELSEWHERE = {"flannel_network": flannel.CONFIG}
"""Settings that a step keeps where a service of another step finds them at its start: each with the
file that stands for it on the service's machine."""

READ_BY_THE_STEP = {
    *("authority", "certificate", "private_key", "kubeconfig"),  # with what it asks
    *("admin_certificate", "admin_key"),
    *("steps", "name_servers", "packet_size", "http_proxy", "https_proxy", "no_proxy"),
    *("endpoint", "api", "several", "controllers", "virtual_ip", "docker_socket"),
    *("node", "members", "kubelet_port", "proxy_port", "cni_list", "runtime", "platform"),
    *(
        "manifests",
        "filled",
        "digest",
        "nodes",
        "namespaces",
        "given",
        "record",
        "recorded",
    ),  # what goes to the API
    "flannel_store",  # fixed in a living cluster, as is flannel_prefix
    "flannel_prefix",
    "reads",  # the step itself
    "users",  # etcd asks itself who may do what, at each request
    # with what etcd is asked before another version of it starts
    *("version", "program", "planned", "data_directory", "endpoints"),
    "images",  # each container that starts; the sandbox's also stands in the runtime's own file
    *("modules", "sysctls"),  # the kernel's, at once
    "resolver",  # kubelet reads it for each pod
    *("disk", "power_button"),  # the kernel's, at once
    "api_name",  # who asks looks it up each time
}
"""Settings that no service reads at its start."""


@pytest.mark.parametrize("name", NAMES)
def test_what_a_service_finds_elsewhere_stands_in_a_file_that_restarts_it(name: str) -> None:
    plan = golden_plan(name)
    steps = [*(step for node in plan.nodes.values() for step in node.steps), *plan.add_ons]
    settings = {setting for step in steps for setting in step.settings}
    assert settings <= READ_BY_THE_STEP | WRITTEN_ELSEWHERE.keys()
    for setting in settings & WRITTEN_ELSEWHERE.keys():
        path = WRITTEN_ELSEWHERE[setting]
        (value,) = {step.settings[setting] for step in steps if setting in step.settings}
        for node in golden_spec(name).nodes:
            (file,) = (file for file in plan.nodes[node].files if file.path == path)
            assert json.loads(file.content) == json.loads(value)
            assert any(path in unit.needs for unit in plan.nodes[node].units)


# -- who is who ------------------------------------------------------------------------------------

ETCD, KUBERNETES, FRONT_PROXY = Authority.ETCD, Authority.KUBERNETES, Authority.FRONT_PROXY

FITS: dict[str, dict[str, Source]] = {
    "etcd": {
        "cert-file": Certificate("etcd-server"),
        "key-file": PrivateKey("etcd-server"),
        "trusted-ca-file": AuthorityCertificate(ETCD),
        "peer-cert-file": Certificate("etcd-peer"),
        "peer-key-file": PrivateKey("etcd-peer"),
        "peer-trusted-ca-file": AuthorityCertificate(ETCD),
    },
    "kube-apiserver": {
        "client-ca-file": AuthorityCertificate(KUBERNETES),
        "tls-cert-file": Certificate("apiserver"),
        "tls-private-key-file": PrivateKey("apiserver"),
        "etcd-cafile": AuthorityCertificate(ETCD),
        "etcd-certfile": Certificate("apiserver-etcd-client"),
        "etcd-keyfile": PrivateKey("apiserver-etcd-client"),
        "kubelet-certificate-authority": AuthorityCertificate(KUBERNETES),
        "kubelet-client-certificate": Certificate("apiserver-kubelet-client"),
        "kubelet-client-key": PrivateKey("apiserver-kubelet-client"),
        "requestheader-client-ca-file": AuthorityCertificate(FRONT_PROXY),
        "proxy-client-cert-file": Certificate("front-proxy-client"),
        "proxy-client-key-file": PrivateKey("front-proxy-client"),
        "service-account-key-file": ServiceAccountKey("public"),
        "service-account-signing-key-file": ServiceAccountKey("private"),
    },
    "kube-controller-manager": {
        "client-ca-file": AuthorityCertificate(KUBERNETES),
        "tls-cert-file": Certificate("controller-manager-server"),
        "tls-private-key-file": PrivateKey("controller-manager-server"),
        "cluster-signing-cert-file": SigningCertificate(KUBERNETES),
        "cluster-signing-key-file": AuthorityKey(KUBERNETES),
        "root-ca-file": AuthorityCertificate(KUBERNETES),
        "service-account-private-key-file": ServiceAccountKey("private"),
        "requestheader-client-ca-file": AuthorityCertificate(FRONT_PROXY),
    },
    "kube-scheduler": {
        "client-ca-file": AuthorityCertificate(KUBERNETES),
        "tls-cert-file": Certificate("scheduler-server"),
        "tls-private-key-file": PrivateKey("scheduler-server"),
        "requestheader-client-ca-file": AuthorityCertificate(FRONT_PROXY),
    },
    "flanneld": {
        "etcd-cafile": AuthorityCertificate(ETCD),
        "etcd-certfile": Certificate("flannel"),
        "etcd-keyfile": PrivateKey("flannel"),
    },
}
"""What each flag must be given, from the documentation of the programs."""


@every_machine
def test_each_flag_names_the_certificate_that_fits_it(machine: View) -> None:
    sources = {file.path: file.source for file in machine.plan.secret_files}
    for name, unit in machine.units.items():
        for flag, value in unit.flags.items():
            if value in sources:
                if flag == "encryption-provider-config":
                    continue
                assert sources[value] == FITS[name][flag], f"{name} --{flag}={value}"


@every_node
def test_the_kubelet_serves_and_calls_with_its_own_certificates(machine: View) -> None:
    config = machine.config("kubelet")
    sources = {file.path: file.source for file in machine.plan.secret_files}
    assert sources[config["tlsCertFile"]] == Certificate("kubelet-server")
    assert sources[config["tlsPrivateKeyFile"]] == PrivateKey("kubelet-server")
    authority = sources[config["authentication"]["x509"]["clientCAFile"]]
    assert authority == AuthorityCertificate(KUBERNETES)


@every_machine
def test_each_kubeconfig_is_its_components_own(machine: View) -> None:
    wanted = {
        "kube-controller-manager": "controller-manager",
        "kube-scheduler": "scheduler",
        "kubelet": "kubelet-client",
        "kube-proxy": "kube-proxy",
        "flanneld": "flannel",
    }
    sources = {file.path: file.source for file in machine.plan.secret_files}
    count = 0
    for name, unit in machine.units.items():
        texts = [*unit.flags.values()]
        if name in ("kube-scheduler", "kube-proxy"):
            texts += _strings(machine.config(name))
        for path in {text for text in texts if text.endswith(".conf") and text in machine.entries}:
            if not path.startswith(layout.KUBERNETES):
                continue
            count += 1
            config = yaml.safe_load(machine.text(path))
            ((cluster,), (user,)) = config["clusters"], config["users"]
            server = layout.local_api_url(machine.spec, machine.plan.node)
            assert cluster["cluster"]["server"] == server
            authority = cluster["cluster"]["certificate-authority"]
            assert sources[authority] == AuthorityCertificate(KUBERNETES)
            assert sources[user["user"]["client-certificate"]] == Certificate(wanted[name])
            assert sources[user["user"]["client-key"]] == PrivateKey(wanted[name])
            # Either it restarts the service, or the service reads it again.
            named = {authority, *user["user"].values()}
            assert {path, *named} <= {*unit.needs, *unit.reads}
            assert path in unit.needs
    assert count or machine.plan.node not in machine.spec.nodes


@every_machine
def test_each_secret_file_is_made_from_what_the_machine_holds(machine: View) -> None:
    rows: dict[str, Row] = {row.name: row for row in held_by(machine.spec, machine.plan.node)}
    used: set[str] = set()
    for file in machine.plan.secret_files:
        match file.source:
            case Certificate(name=name) | PrivateKey(name=name):
                assert name in rows, file.path
                used.add(name)
    assert used == set(rows), "a certificate that no file holds"


OF_A_PAIR: dict[type, Callable[[Any], Source]] = {
    PrivateKey: lambda key: Certificate(key.name),
    AuthorityKey: lambda key: SigningCertificate(key.authority),
    ServiceAccountKey: lambda _: ServiceAccountKey("public"),
}


@every_machine
def test_a_key_comes_into_its_place_right_before_its_certificate(machine: View) -> None:
    """They come in the plan's order, those of a folder in a row (``in_place`` of the prelude)."""
    files = list(machine.plan.secret_files)
    keys = [file for file in files if file.path.endswith(".key")]
    assert keys
    for key in keys:
        follower = files[files.index(key) + 1]
        assert follower.source == OF_A_PAIR[type(key.source)](key.source)
        assert PurePosixPath(follower.path).parent == PurePosixPath(key.path).parent


@every_machine
def test_each_machines_address_is_in_its_servers_certificates(machine: View) -> None:
    address = machine.spec.machines[machine.plan.node].address
    for row in held_by(machine.spec, machine.plan.node):
        if Use.SERVER in row.uses and row.name in (
            *("etcd-server", "etcd-peer", "apiserver", "kubelet-server"),
        ):
            assert address in row.addresses


# -- secrets ---------------------------------------------------------------------------------------


@every_machine
def test_only_the_identity_step_has_secrets_and_it_has_nothing_else(machine: View) -> None:
    for step in machine.plan.steps:
        assert step.secret == (step.name == "identity")
        text = "".join(file.content for file in step.files) + str(dict(step.settings))
        text = re.sub(r"automountServiceAccountToken: \w+", "", text)
        # A value on the same line: the schema of an object names its fields, and their types below.
        assert not re.search(r"PRIVATE KEY|client-key-data|(?i:password|token):[^\S\n]*\S", text)
    identity = machine.plan.step("identity")
    assert (identity.files, identity.units, identity.artifacts) == ((), (), ())


@every_machine
def test_no_machine_holds_what_bypasses_authorization(machine: View) -> None:
    rows = held_by(machine.spec, machine.plan.node)
    assert all(row.organization != "system:masters" for row in rows)


# -- ports -----------------------------------------------------------------------------------------


@every_machine
def test_each_port_is_used_once(machine: View) -> None:
    taken = Counter(_ports(machine))
    assert [port for port, count in taken.items() if count > 1] == []
    if "kube-apiserver" in machine.units:
        assert ("tcp", 6443) in taken


def _ports(machine: View) -> Iterator[tuple[str, int]]:
    """Protocol and port of everything that listens, by the programs' flags and defaults."""
    units = machine.units
    if "etcd" in units:
        flags = units["etcd"].flags
        listeners = ("listen-client-urls", "listen-peer-urls", "listen-metrics-urls")
        for name in listeners:
            ports = {url.rpartition(":")[2] for url in flags[name].split(",")}
            yield from (("tcp", int(port)) for port in ports)
    for name, default in (
        *(("kube-apiserver", 6443), ("kube-controller-manager", 10257)),
        ("kube-scheduler", 10259),
    ):
        if name in units:
            yield "tcp", int(units[name].flags.get("secure-port", default))
    if "kubelet" in units:
        config = machine.config("kubelet")
        yield "tcp", config.get("port", 10250)
        yield "tcp", config.get("healthzPort", 10248)
    if "kube-proxy" in units:
        config = machine.config("kube-proxy")
        yield "tcp", int(config.get("metricsBindAddress", ":10249").rpartition(":")[2])
        yield "tcp", int(config.get("healthzBindAddress", ":10256").rpartition(":")[2])
    if "flanneld" in units:
        yield "tcp", int(units["flanneld"].flags["healthz-port"])
        if machine.spec.flannel.backend == "vxlan":
            yield "udp", machine.spec.flannel.port
    for name, unit in units.items():
        if "haproxy" in name:
            for file in (config for config in machine.plan.files if config.path in unit.needs):
                for port in re.findall(r"^\s*bind\s+\S+:(\d+)", file.content, flags=re.MULTILINE):
                    yield "tcp", int(port)


# -- independence ----------------------------------------------------------------------------------


def _with(spec: Cluster, machines: dict[str, Any]) -> Cluster:
    value = spec.model_dump(mode="json", exclude={"machines"}, exclude_unset=True)
    return parse({**value, "machines": machines}, name=spec.name)


def _machines(spec: Cluster) -> dict[str, Any]:
    dumped: dict[str, Any] = spec.model_dump(mode="json", exclude_unset=True)["machines"]
    return dumped


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_machines_changes_nothing(name: str) -> None:
    spec = golden_spec(name)
    turned = _with(spec, dict(reversed(_machines(spec).items())))
    assert cluster_plan(turned) == golden_plan(name)


def _minions(spec: Cluster) -> list[str]:
    return [n for n in spec.nodes if n not in (*spec.control_planes, *spec.etcd_members)]


ADDABLE = [name for name in NAMES if golden_spec(name).hypervisor is None]


@pytest.mark.parametrize("name", ADDABLE)
def test_another_minion_changes_no_other_machine(name: str) -> None:
    spec = golden_spec(name)
    address = str(spec.networks.machines[0][100])
    more = _with(spec, {**_machines(spec), "another": {"address": address, "roles": ["minion"]}})
    for node, plan in golden_plan(name).nodes.items():
        assert _without_add_ons(node_plan(more, node)) == _without_add_ons(plan)


def _without_add_ons(plan: NodePlan) -> NodePlan:
    """A plan without the manifests, which may follow from the number of nodes."""
    steps = (
        replace(
            step,
            files=tuple(file for file in step.files if not file.path.startswith(addons.FOLDER)),
        )
        for step in plan.steps
    )
    return replace(plan, steps=tuple(steps))


@pytest.mark.parametrize("name", [name for name in ADDABLE if _minions(golden_spec(name))])
def test_another_name_of_a_minion_changes_no_other_machine(name: str) -> None:
    spec = golden_spec(name)
    minions = _minions(spec)
    renamed = {
        ("renamed" if node == minions[0] else node): value
        for node, value in _machines(spec).items()
    }
    changed = _with(spec, renamed)
    for node, plan in golden_plan(name).nodes.items():
        if node != minions[0]:
            assert node_plan(changed, node) == plan


# -- as text ---------------------------------------------------------------------------------------


def _placeholder(source: Source) -> str:
    return f"{source}\n"


def used(step: Step) -> str:
    """The text of all scripts that a step uses."""
    return "".join(map(library.script, render.used(step)))


@pytest.mark.parametrize("name", NAMES)
def test_no_step_is_ended_before_all_of_its_waits_are(name: str) -> None:
    """Each wait says what was waited for, which a step that is killed does not."""
    plan = golden_plan(name)
    for step in (*(s for node in plan.nodes.values() for s in node.steps), *plan.add_ons):
        waits = re.findall(r"^ *(?:exec )?(?:await|await_api|wait_for) (\S+)", used(step), re.M)
        seconds = [LIMITS[name].seconds for name in waits if not name.startswith('"$')]
        assert max(seconds) >= 600
        assert render.limit(step) > HARD * sum(seconds)
        assert render.command(step).startswith(f"timeout -k 10 {render.limit(step)} ")


@pytest.mark.parametrize("host", ["api.example.org", "192.0.2.9"])
@pytest.mark.parametrize("planes", [1, 3])
def test_who_asks_for_the_api_by_a_name_first_looks_whether_there_is_one(
    host: str, planes: int
) -> None:
    roles = [*["a"] * planes, "e", "i", "i"]
    machines = {
        f"m{number}": {"address": f"192.168.1.{10 + number}", "roles": role}
        for number, role in enumerate(roles)
    }
    plan = cluster_plan(cluster(endpoint={"kind": "balancer", "host": host}, machines=machines))
    asked = {}
    for name, planned in plan.nodes.items():
        ready, *later = planned.steps
        asks = any(f"//{host}" in render.text(step, _placeholder) for step in later)
        asked[name] = asks
        assert ready.settings["api_name"] == (host if asks and host[0] == "a" else "")
    assert [asked[name] for name in machines] == [role == "i" for role in roles]


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_is_read_by_its_script(name: str) -> None:
    plan = golden_plan(name)
    for step in (*(s for node in plan.nodes.values() for s in node.steps), *plan.add_ons):
        text = "".join(
            library.script(script_name) for script_name in (step.begin, step.script) if script_name
        )
        text += library.script("admin") if step.admin else ""
        # The digest of what is applied is there so that the data change with it.
        for variable in step.settings.keys() - {"digest"}:
            assert re.search(rf"\b{variable}\b", text), f"{step.name}: {variable}"


# -- as people see it ------------------------------------------------------------------------------

INFO = 34
"""Characters that Pulumi's tree has room for beside a step's row at 100 columns."""


@pytest.mark.parametrize("name", NAMES)
def test_each_step_whose_output_is_shown_ends_with_what_it_did(name: str) -> None:
    """The last line stays beside the row: without it that would be what was waited for."""
    plan = golden_plan(name)
    for step in (*(s for node in plan.nodes.values() for s in node.steps), *plan.add_ons):
        assert bool(step.outcome) != step.secret, step.name
        assert read(render.text(step, _placeholder)).outcome == step.outcome
        assert len(step.outcome) <= INFO, step.outcome


@pytest.mark.parametrize("name", NAMES)
def test_what_a_step_waits_for_has_room_beside_its_row(name: str) -> None:
    """Details are for the failure: they stand in a parenthesis, which is not said before."""
    for step in (s for node in golden_plan(name).nodes.values() for s in node.steps):
        titles = re.findall(r'^ *.*\b(?:await|wait_for) [a-z-]+ "([^"]+)"', used(step), re.M)
        assert titles
        for title in titles:
            assert len("until " + title.partition(" (")[0]) <= INFO, title
