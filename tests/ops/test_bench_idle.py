"""What is read of idle machines, from what one has printed."""

import subprocess

from ops import bench_idle
from ops.bench_idle import INNER, ROOT, Seen, seen, services

PRINTED = f"""\
cpu {ROOT} 9000000
cpu {ROOT}/init.scope 100000
cpu {ROOT}/kubepods.slice 300000
cpu {INNER} 8000000
cpu {INNER}/etcd.service 2000000
cpu {INNER}/kube-apiserver.service 5000000
cpu {INNER}/kubelet.service 900000
memory MemTotal 2000000
memory MemAvailable 1488000
"""


def test_a_machine_is_read_from_inside() -> None:
    reading = seen(PRINTED)
    assert reading.used[f"{INNER}/kubelet.service"] == 900_000
    assert reading.memory == 500


def test_each_service_has_its_part_of_what_the_machine_used_and_the_rest_is_the_kernels() -> None:
    before = seen(PRINTED)
    used = {**before.used, ROOT: 13_000_000, INNER: 11_000_000}
    used[f"{INNER}/kubelet.service"] += 2_000_000
    used[f"{INNER}/kube-apiserver.service"] += 1_000_000
    used[f"{INNER}/new.service"] = 200_000
    parts = services(before, Seen(used, 500))
    assert list(parts.items())[:4] == [
        ("kubelet.service", 0.5),
        ("kube-apiserver.service", 0.25),
        ("kernel", 0.2),
        ("new.service", 0.05),
    ]
    assert sum(parts.values()) == 1


def test_what_is_asked_of_a_machine_is_read_wherever_groups_are_counted() -> None:
    done = subprocess.run(["sh", "-c", bench_idle.LOOK], capture_output=True, text=True, check=True)
    assert seen(done.stdout).memory > 0
    assert done.stderr == ""
