"""Reviews of all kinds, made of the real texts of real plans."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Network

from hypothesis import strategies as st

from certs.table import held_by
from plan import unit
from plan.cluster import node_plan
from plan.model import Step
from preview.change import Verb
from preview.review import (
    CertificateChange,
    Consequence,
    Disturbance,
    FileChange,
    Finding,
    LineChange,
    MachineReview,
    ResourceLine,
    Review,
    Severity,
    StepChange,
)
from preview.still import still
from spec.cluster import Cluster, parse
from tests.plan.golden import digests, golden_spec

HOSTILE = (
    "```\n</details>\n\n# out\n`````\n",
    "</script><script>window.hurt = 1</script><!-- ]]> <![CDATA[\n",
    "<!-- <script a\n</script a b\n",
    "<img src=x onerror='window.hurt = 1'>\n--><style>*{display:none}</style>\n",
    "safe = 1 # \u202e } on eb ot \u2066// \u200bhidden\x1b[31m\x00\n",
    "one\r\ntwo\r\n",
    "a\n" + "x" * 20_000 + "\nno newline at the end",
    "| cell | `code | \\| [link](http://example.invalid) @everyone #1 www.example.invalid\n",
    "    ```\n\t~~~\n<details><summary>\n&lt;script&gt;&#96;&#124;\n",
    '"; alert(1); //\u2028\u2029 ${alert(1)} {{7*7}} <%= 7 %>\n',
    "",
    "\n\n\n",
)
"""Contents that try to leave the place where they are shown."""


def nothing() -> Review:
    """The default stack, and nothing to do."""
    return replace(still(golden_spec("default")), unchanged=42, before="main", after="4f1c2d3")


def new() -> Review:
    """The default stack, from nothing."""
    return _all_new(golden_spec("default"))


def flag_change() -> Review:
    """A flag of the kubelet on all three machines, with restarts."""
    spec = golden_spec("default")

    machines = tuple(
        replace(
            machine,
            verb=Verb.UPDATE,
            steps=(_edited(spec, machine.name, "node", "/etc/kubernetes/kubelet.yaml"),),
        )
        for machine in still(spec).machines
    )
    return replace(
        nothing(),
        machines=machines,
        disturbances=tuple(
            Disturbance(
                machine=machine.name, services=("kubelet.service",), how="beside the others"
            )
            for machine in machines
        ),
        consequences=(
            Consequence(
                severity=Severity.NOTICE, sentence="The kubelets of 3 nodes are restarted."
            ),
            Consequence(severity=Severity.FINE, sentence="etcd keeps its quorum; no member stops."),
            Consequence(severity=Severity.FINE, sentence="The API server is not restarted."),
        ),
        counts={Verb.UPDATE: 3},
        unchanged=39,
    )


def adding() -> Review:
    """One minion more."""
    review = nothing()
    *others, last = review.machines
    return replace(
        review,
        machines=(*others, _new_machine(golden_spec("default"), last)),
        counts={Verb.CREATE: 10},
        unchanged=32,
    )


def removing() -> Review:
    """One minion less."""
    review = nothing()
    *others, last = review.machines
    gone = replace(
        last,
        verb=Verb.DELETE,
        resources=(ResourceLine(name=f"{last.name}-domain", kind="Domain", verb=Verb.DELETE),),
        certificates=(_certificate("kubelet", last.name, Verb.DELETE, "its machine is removed"),),
    )
    return replace(
        review,
        machines=(*others, gone),
        consequences=(
            Consequence(severity=Severity.NOTICE, sentence="The pods of minion-2 move."),
        ),
        counts={Verb.DELETE: 10},
        unchanged=32,
    )


def dangerous() -> Review:
    """The only control plane is made anew, which a rule forbids."""
    review = new()
    machines = tuple(
        replace(machine, verb=Verb.REPLACE)
        if machine.name == "master"
        else replace(machine, verb=Verb.SAME)
        for machine in review.machines
    )
    machines = tuple(
        machine if machine.verb is not Verb.SAME else replace(machine, steps=())
        for machine in machines
    )
    return replace(
        review,
        kubernetes=("1.36.3", "1.37.1"),
        machines=machines,
        consequences=(
            Consequence(
                severity=Severity.DANGER,
                sentence="The only etcd member is made anew: everything in the cluster is lost.",
            ),
            Consequence(severity=Severity.NOTICE, sentence="Nobody reaches the API meanwhile."),
        ),
        findings=(
            Finding(
                rule="quorum",
                resource="master-domain",
                sentence="of 1 members of etcd 0 stay; add members before one is made anew",
            ),
        ),
        counts={Verb.REPLACE: 4, Verb.UPDATE: 2},
    )


def renewal() -> Review:
    """Certificates that are due."""
    review = nothing()
    why = "it ends on 2027-01-05, in less than 30 days"
    machines = tuple(
        replace(
            machine,
            verb=Verb.UPDATE,
            steps=(
                StepChange(
                    resource=f"{machine.name}-identity",
                    name="identity",
                    verb=Verb.UPDATE,
                    hidden=True,
                    restarts=("kubelet.service",),
                    why="its certificates change",
                ),
            ),
            certificates=(
                _certificate("kubelet", machine.name, Verb.UPDATE, why),
                _certificate("kube-proxy", machine.name, Verb.UPDATE, "it names another address"),
            ),
        )
        for machine in review.machines
    )
    return replace(
        review,
        machines=machines,
        certificates=(_certificate("admin", "people", Verb.UPDATE, why),),
        counts={Verb.UPDATE: 6},
    )


def fifty() -> Review:
    """Fifty machines with one flag changed on each, and two more."""
    return _many(50)


def five_hundred() -> Review:
    """Five hundred machines, all new, most of their files alike."""
    return _many(500)


def hostile() -> Review:
    """Contents, names and sentences that try to leave their places."""
    files = tuple(
        FileChange(
            path=f"/etc/{number}/`<b>|</script>\u202e*",
            before=HOSTILE[number - 1] if number % 3 else None,
            after=text,
            before_mode="0600 root:root" if number % 3 else "",
            after_mode="0644 root:root",
            restarts=("`a|b`.service",),
        )
        for number, text in enumerate(HOSTILE)
    )
    around = "```\n</details>\n`````\n<script>window.hurt = 1</script>\n"
    files += (
        FileChange(
            path="/etc/around", before=f"{around}old\n{around}", after=f"{around}new\n{around}"
        ),
    )
    bad = "</script><img src=x onerror=window.hurt=1>`|\n\n</details> @all **[x](javascript:1)"
    step = StepChange(
        resource=bad,
        name=bad,
        verb=Verb.UPDATE,
        files=files,
        lines=(
            LineChange(what=bad, before=bad, after=None),
            LineChange(what=bad, before=bad, after=bad),
        ),
        why=bad,
    )
    return replace(
        flag_change(),
        cluster=bad,
        endpoint=bad,
        networks=((bad, bad),),
        before=bad,
        after=bad,
        machines=(
            replace(still(golden_spec("default")).machines[0], verb=Verb.UPDATE, steps=(step,)),
            MachineReview(
                name=bad,
                address=bad,
                roles=(bad,),
                verb=Verb.REPLACE,
                memory=1,
                cpus=1,
                disk=1,
                resources=(ResourceLine(name=bad, kind=bad, verb=Verb.UPDATE, why=bad),),
                certificates=(_certificate(bad, bad, Verb.UPDATE, bad),),
            ),
        ),
        resources=(ResourceLine(name=bad, kind=bad, verb=Verb.CREATE, why=bad),),
        artifacts=(LineChange(what=bad, before=None, after=bad),),
        disturbances=(Disturbance(machine=bad, services=(bad,), how=bad),),
        consequences=tuple(Consequence(severity=severity, sentence=bad) for severity in Severity),
        findings=(Finding(rule=bad, resource=bad, sentence=bad),),
        notes=(bad,),
    )


SAMPLES: dict[str, Callable[[], Review]] = {
    sample.__name__: cache(sample)
    for sample in (
        *(nothing, new, flag_change, adding, removing, dangerous, renewal),
        *(fifty, five_hundred, hostile),
    )
}


# -- how they are made ---------------------------------------------------------------------------


def _certificate(name: str, holder: str, verb: Verb, why: str) -> CertificateChange:
    return CertificateChange(name=name, holder=holder, verb=verb, why=why)


def _files(step: Step) -> tuple[FileChange, ...]:
    """A step's files as new ones."""
    texts = [(item.path, item.content, f"{item.mode:04o} {item.owner}") for item in step.files]
    texts += [(item.path, unit.text(item), "0644 root:root") for item in step.units]
    return tuple(
        FileChange(path=path, before=None, after=text, after_mode=mode)
        for path, text, mode in sorted(texts)
    )


def edit(text: str) -> str:
    """Three lines of a kubelet's configuration, at two places."""
    changed = text.replace("eventBurst: 100", "eventBurst: 200")
    return changed.replace("failSwapOn: true\n", "failSwapOn: false\nmaxPods: 250\n")


def _edited(spec: Cluster, machine: str, step: str, path: str) -> StepChange:
    """A step in which one file is another."""
    (file,) = (file for file in _files(node_plan(spec, machine).step(step)) if file.path == path)
    assert file.after is not None
    return StepChange(
        resource=f"{machine}-{step}",
        name=step,
        verb=Verb.UPDATE,
        files=(
            replace(
                file,
                before=file.after,
                after=edit(file.after),
                before_mode=file.after_mode,
                restarts=("kubelet.service",),
            ),
        ),
        restarts=("kubelet.service",),
    )


def _new_machine(spec: Cluster, machine: MachineReview) -> MachineReview:
    """A machine with all that it gets."""
    name = machine.name
    return replace(
        machine,
        verb=Verb.CREATE,
        resources=tuple(
            ResourceLine(name=f"{name}-{what.lower()}", kind=what, verb=Verb.CREATE)
            for what in ("Volume", "CloudInitDisk", "Domain")
        ),
        steps=tuple(_new_step(name, step) for step in node_plan(spec, name).steps),
        certificates=tuple(
            _certificate(row.name, name, Verb.CREATE, "its machine is new")
            for row in held_by(spec, name)
        ),
    )


def _new_step(machine: str, step: Step) -> StepChange:
    return StepChange(
        resource=f"{machine}-{step.name}",
        name=step.name,
        verb=Verb.CREATE,
        files=_files(step),
        lines=tuple(
            LineChange(what="package", before=None, after=package) for package in step.packages
        )
        + tuple(
            LineChange(what="artifact", before=None, after=f"{artifact.name} {artifact.version}")
            for artifact in step.artifacts
        ),
        hidden=step.secret,
        restarts=tuple(service.name for service in step.units),
        why="its machine is new" if step.secret else "",
    )


def _like(template: MachineReview, machine: MachineReview) -> MachineReview:
    """A new machine that differs from another in name and address alone: to plan it takes long."""

    def own(text: str) -> str:
        return text.replace(template.name, machine.name).replace(template.address, machine.address)

    steps = tuple(
        replace(
            step,
            resource=own(step.resource),
            files=tuple(replace(file, after=own(file.after or "")) for file in step.files),
        )
        for step in template.steps
    )
    return replace(
        template,
        name=machine.name,
        address=machine.address,
        resources=tuple(replace(line, name=own(line.name)) for line in template.resources),
        steps=steps,
        certificates=tuple(replace(row, holder=machine.name) for row in template.certificates),
    )


def _all_new(spec: Cluster) -> Review:
    review = still(spec)
    first = next(machine for machine in review.machines if machine.roles == ("node",))
    template = _new_machine(spec, first)
    machines = tuple(
        _like(template, machine) if machine.roles == ("node",) else _new_machine(spec, machine)
        for machine in review.machines
    )
    programs = {
        line.after: line
        for machine in machines
        for step in machine.steps
        for line in step.lines
        if line.what == "artifact"
    }
    return replace(
        review,
        kubernetes=("", spec.kubernetes),
        after="4f1c2d3",
        machines=machines,
        resources=(ResourceLine(name="network", kind="Network", verb=Verb.CREATE),),
        artifacts=tuple(programs.values()),
        certificates=(_certificate("admin", "people", Verb.CREATE, "the cluster is new"),),
        consequences=(
            Consequence(severity=Severity.NOTICE, sentence="Nobody has used this cluster before."),
        ),
        counts={Verb.CREATE: 12 * len(machines)},
    )


def large(size: int) -> Cluster:
    """Three control planes behind a virtual IP, and minions up to ``size`` machines."""
    network = IPv4Network("10.0.0.0/20")
    return parse(
        {
            "networks": {
                "machines": str(network),
                "pods": "10.128.0.0/12",
                "services": "10.96.0.0/16",
            },
            "endpoint": {"kind": "virtual-ip", "address": str(network[5])},
            "machines": {
                **{
                    f"control{number}": {
                        "address": str(network[10 + number]),
                        "roles": "ea",
                        "cpus": 4,
                        "memory": 8192,
                    }
                    for number in range(1, 4)
                },
                **{
                    f"minion{number}": {
                        "address": str(network[20 + number]),
                        "memory": 4096,
                        "cpus": 2,
                    }
                    for number in range(1, size - 2)
                },
            },
            "artifacts": {"digests": digests(None)},
        },
        name="large",
    )


def _many(size: int) -> Review:
    """All new where there are many; else a changed flag on each, two new and one gone."""
    spec = large(size)
    review = still(spec)
    if size > 100:
        return _all_new(spec)

    path, changed = "/etc/kubernetes/kubelet.yaml", []
    for number, machine in enumerate(review.machines):
        if number in (20, 21):
            changed.append(_new_machine(spec, machine))
        elif number == 30:
            changed.append(replace(machine, verb=Verb.DELETE))
        elif number % 3 == 2:
            changed.append(machine)
        else:
            steps = (_edited(spec, machine.name, "node", path),)
            changed.append(replace(machine, verb=Verb.UPDATE, steps=steps))
    return replace(
        review,
        before="main",
        after="4f1c2d3",
        machines=tuple(changed),
        disturbances=tuple(
            Disturbance(
                machine=machine.name, services=("kubelet.service",), how="beside the others"
            )
            for machine in changed
            if machine.verb is Verb.UPDATE
        ),
        consequences=(
            Consequence(
                severity=Severity.NOTICE, sentence="The kubelets of 32 nodes are restarted."
            ),
            Consequence(severity=Severity.FINE, sentence="etcd keeps its quorum: 3 of 3 members."),
        ),
        counts={Verb.UPDATE: 32, Verb.CREATE: 20, Verb.DELETE: 10},
        unchanged=400,
    )


# -- any review ----------------------------------------------------------------------------------

_TEXT = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=40),
    st.text(alphabet="`~|<>\\/ -#*_[]()!&;@:\n\r\t=+adeilst", max_size=60),
)
_VERBS = st.sampled_from(Verb)
_SIZES = st.integers(0, 10**6)


def _tuples(
    strategy: st.SearchStrategy[object], size: int = 3
) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=size).map(tuple)


_FILES = st.builds(
    FileChange,
    path=_TEXT,
    before=st.none() | _TEXT,
    after=st.none() | _TEXT,
    before_mode=_TEXT,
    after_mode=_TEXT,
    restarts=_tuples(_TEXT),
)
_LINES = st.builds(LineChange, what=_TEXT, before=st.none() | _TEXT, after=st.none() | _TEXT)
_STEPS = st.builds(
    StepChange,
    resource=_TEXT,
    name=_TEXT,
    verb=_VERBS,
    files=_tuples(_FILES),
    lines=_tuples(_LINES),
    hidden=st.booleans(),
    restarts=_tuples(_TEXT),
    why=_TEXT,
)
_CERTIFICATES = st.builds(CertificateChange, name=_TEXT, holder=_TEXT, verb=_VERBS, why=_TEXT)
_RESOURCES = st.builds(ResourceLine, name=_TEXT, kind=_TEXT, verb=_VERBS, why=_TEXT)
_MACHINES = st.builds(
    MachineReview,
    name=_TEXT,
    address=_TEXT,
    roles=_tuples(st.sampled_from(["etcd", "control-plane", "node"])),
    verb=_VERBS,
    memory=_SIZES,
    cpus=_SIZES,
    disk=_SIZES,
    resources=_tuples(_RESOURCES),
    steps=_tuples(_STEPS),
    certificates=_tuples(_CERTIFICATES),
)
REVIEWS = st.builds(
    Review,
    cluster=_TEXT,
    kubernetes=st.tuples(_TEXT, _TEXT),
    endpoint=_TEXT,
    networks=_tuples(st.tuples(_TEXT, _TEXT)),
    before=_TEXT,
    after=_TEXT,
    machines=_tuples(_MACHINES, 5),
    resources=_tuples(_RESOURCES),
    steps=_tuples(_STEPS),
    certificates=_tuples(_CERTIFICATES),
    artifacts=_tuples(_LINES),
    disturbances=_tuples(st.builds(Disturbance, machine=_TEXT, services=_tuples(_TEXT), how=_TEXT)),
    consequences=_tuples(
        st.builds(Consequence, severity=st.sampled_from(Severity), sentence=_TEXT)
    ),
    findings=_tuples(st.builds(Finding, rule=_TEXT, resource=_TEXT, sentence=_TEXT)),
    unchanged=_SIZES,
    notes=_tuples(_TEXT),
    counts=st.dictionaries(_VERBS, _SIZES),
)
"""Any review at all, also such as no cluster has."""
