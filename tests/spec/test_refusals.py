"""Every mistake that can be seen in a spec is refused, in a sentence that says what to write."""

import copy
from ipaddress import IPv4Network
from typing import Any

import pytest

from hypervisors.libvirt.growth import volume
from spec.cluster import SpecError, mac_address, parse
from spec.hypervisor import domain_name
from tests.spec.pem import PEM
from tests.spec.sentences import check, refused

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5Yk0v4e7n1oQ2p6r8s0t2u4w6y8A0C2E4G6I8K0M2O"
LIBVIRT = {"kind": "libvirt", "uri": "qemu:///system", "image": "base"}
COPIES = {
    "host": "backup.example.org",
    "user": "keeper",
    "host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5Yk0v4e7n1oQ2p6r8s0t2u4w6y8A0C2E4G6I8K0M2O",
    "directory": "/srv/backups",
}
BUCKET = {"kind": "s3", "endpoint": "https://s3.example.org", "bucket": "backups"}

EXISTING = {"kind": "existing", "host_keys": {f"192.168.1.{n}": ED25519 for n in (10, 11)}}
SUBNETS = ["192.168.1.0/24", "10.1.0.0/24"]
APART = {
    "networks machines": SUBNETS,
    "networks routed": True,
    "machines m1 address": "10.1.0.11",
}
"""The minion in another subnet than the master, and routers between the two."""
ELSEWHERE = {"kind": "existing", "host_keys": {"10.1.0.11": ED25519}}
EXISTING_M1 = {"kind": "existing", "host_keys": {"192.168.1.11": ED25519}}
FAR = {"kind": "libvirt", "uri": "qemu+ssh://root@hv2.example.org/system", "image": "base"}
GONE = object()
ROUTER = {"networks gateway": "192.168.1.254"}
BRIDGED = {**ROUTER, "networks bridge": "br0", "hypervisor": LIBVIRT}
"""The machines on a bridge of their host's own network."""


def far(host: str, parameters: str = "") -> dict[str, Any]:
    return {**FAR, "uri": f"qemu+ssh://{host}/system" + (f"?{parameters}" if parameters else "")}


GOOD: dict[str, Any] = {
    "name": "dev",
    "kubernetes": "1.37.1",
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "ai"},
        "m1": {"address": "192.168.1.11", "roles": ["minion"]},
    },
}
MACHINE = {"address": "192.168.1.12"}
CONTROL = {"address": "192.168.1.12", "roles": "a"}
CONTROL_2 = {"address": "192.168.1.13", "roles": "a"}
VIRTUAL = {"kind": "virtual-ip", "address": "192.168.1.100"}
BALANCER = {"kind": "balancer", "host": "api.example.org"}
TAINT = {"key": "example.org/dedicated", "effect": "NoSchedule"}
DIGEST = "0123456789abcdef" * 4
ADDRESSES = "addons load_balancer addresses"
POOL = "addons.load_balancer.addresses"
FREE, AT_203 = "192.168.1.200-192.168.1.205", "192.168.1.203"
INGRESS, ENTRY = "addons ingress", "addons.ingress"
BACKEND = {"namespace": "shop", "service": "web", "port": 80}
VIRTUAL_203 = {"kind": "virtual-ip", "address": AT_203}
BALANCER_203 = {"kind": "balancer", "host": AT_203}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The good spec with other values; the parts of a path are apart by spaces."""
    value = copy.deepcopy(GOOD)
    for path, new in changes.items():
        *parents, last = path.split(" ")
        here = value
        for key in parents:
            here = here.setdefault(key, {})
        if new is GONE:
            del here[last]
        else:
            here[last] = copy.deepcopy(new)
    return value


# What is changed, the field that is named, and words of the sentence.
ONE = [
    # -- names
    ({"name": "Dev"}, "name", "upper-case letters"),
    ({"name": "my_cluster"}, "name", "write name: my-cluster"),
    ({"name": ""}, "name", "is empty"),
    ({"name": "x" * 64}, "name", "has 64 characters"),
    ({"name": 7}, "name", "in quotes"),
    ({"machines Node": MACHINE}, "machines.Node", "write node"),
    ({"machines m_2": MACHINE}, "machines.m_2", "write m-2"),
    ({"machines m.2": MACHINE}, "machines.m.2", "write m-2"),
    ({"machines -m": MACHINE}, "machines.-m", "write m"),
    ({f"machines {'m' * 53}": MACHINE}, f"machines.{'m' * 53}", "53 characters where 52 fit"),
    ({"machines ": MACHINE}, 'machines.""', "is empty"),
    ({"machines localhost": MACHINE}, "machines.localhost", "every machine's name for itself"),
    ({"dns_domain": "Cluster.Local"}, "dns_domain", "write cluster.local"),
    ({"dns_domain": "cluster.local."}, "dns_domain", "write cluster.local"),
    ({"dns_domain": "cluster_local"}, "dns_domain", "no DNS name"),
    ({"dns_domain": ".".join(["a" * 60] * 4)}, "dns_domain", "write a shorter one"),
    ({"dns_domain": "10.0.0.1"}, "dns_domain", "no DNS name"),
    # -- versions and choices
    (
        {"kubernetes": "1.34.2"},
        "kubernetes",
        "write 1.37.1, 1.37.0, 1.36.4, 1.36.3, 1.35.4, 1.35.1 or",
    ),
    ({"kubernetes": "1.37"}, "kubernetes", "not in the version catalogue"),
    ({"kubernetes": "latest"}, "kubernetes", "not in the version catalogue"),
    ({"kubernetes": 1.37}, "kubernetes", "a version in quotes"),
    ({"architecture": "x86_64"}, "architecture", "write amd64 or arm64"),
    ({"runtime": "cri-o"}, "runtime", "write containerd or docker"),
    ({"runtime": "dockershim"}, "runtime", "gone since Kubernetes 1.24"),
    ({"proxy_mode": "ipvs"}, "proxy_mode", "deprecated since Kubernetes 1.35"),
    ({"proxy_mode": "ebpf"}, "proxy_mode", "write nftables or iptables"),
    ({"rollout nodes": 0}, "rollout.nodes", 'a share in quotes from "1%" to "100%"'),
    ({"rollout nodes": True}, "rollout.nodes", "a whole number, 1 or more"),
    ({"rollout nodes": "0%"}, "rollout.nodes", "a whole number, 1 or more"),
    ({"rollout nodes": "150%"}, "rollout.nodes", "a whole number, 1 or more"),
    ({"rollout nodes": "all"}, "rollout.nodes", "a whole number, 1 or more"),
    ({"keys encryption": 0}, "keys.encryption", "1 or more"),
    ({"keys service_accounts": 0}, "keys.service_accounts", "1 or more"),
    ({"authorities etcd": []}, "authorities.etcd", "one or two different whole numbers"),
    ({"authorities etcd": 2}, "authorities.etcd", "one or two different whole numbers"),
    ({"authorities etcd": [1, 1]}, "authorities.etcd", "one or two different whole numbers"),
    ({"authorities etcd": [0, 1]}, "authorities.etcd", "one or two different whole numbers"),
    ({"ssh_keys": []}, "ssh_keys", "one or two different whole numbers"),
    ({"ssh_keys": 2}, "ssh_keys", "one or two different whole numbers"),
    ({"ssh_keys": [2, 2]}, "ssh_keys", "one or two different whole numbers"),
    ({"authorities etcd": [1, 2, 3]}, "authorities.etcd", "one or two different whole numbers"),
    ({"etcd generation": 0}, "etcd.generation", "1 or more"),
    ({"etcd version": "3.5.30"}, "etcd.version", "write 3.7.1 or 3.6.14, or leave it out"),
    (
        {"kubernetes": "1.36.4", "etcd version": "3.7.1"},
        "etcd.version",
        "write 3.6.14, or leave it out",
    ),
    ({"etcd version": 3.6}, "etcd.version", "a version in quotes"),
    ({"etcd generation": "two"}, "etcd.generation", "1 or more"),
    ({"flannel backend": "wireguard"}, "flannel.backend", "write vxlan or host-gw"),
    ({"flannel backend": "udp"}, "flannel.backend", "for old kernels only"),
    ({"flannel store": "consul"}, "flannel.store", "write etcd or kubernetes"),
    ({"flannel vni": 2**24}, "flannel.vni", "from 1 to 16777215"),
    ({"addons coredns": "yes"}, "addons.coredns", "write true or false"),
    # -- networks
    (
        {"networks pods": "192.168.0.0/16", "networks services": "10.96.0.0/16"},
        "networks.pods",
        "overlaps networks.machines",
    ),
    ({"networks services": "192.168.1.0/25"}, "networks.services", "overlaps networks.machines"),
    ({"networks services": "172.16.5.0/24"}, "networks.services", "overlaps networks.pods"),
    ({"networks pods": "172.16.0.0/23"}, "networks.pods", "room for 1 parts"),
    ({"networks pods": "172.16.0.0/25"}, "networks.pods", "room for 0 parts"),
    ({"networks pods": "172.16.0.0"}, "networks.pods", "prefix length, such as 172.16.0.0/16"),
    ({"networks services": "192.168.3.0"}, "networks.services", "such as 192.168.3.0/24"),
    ({"networks services": "192.168.3.1/24"}, "networks.services", "write 192.168.3.0/24"),
    ({"networks machines": "192.168.1.0"}, "networks.machines", "such as 192.168.1.0/24"),
    ({"networks machines": "192.168.1.10/24"}, "networks.machines", "write 192.168.1.0/24"),
    ({"networks pods": " 172.16.0.0/16"}, "networks.pods", "an IPv4 network such as"),
    ({"networks pods": "172.16.0.0/"}, "networks.pods", "an IPv4 network such as"),
    ({"networks pods": ""}, "networks.pods", "an IPv4 network such as"),
    ({"networks pods_per_node": "/24"}, "networks.pods_per_node", "alone, such as 24"),
    ({"networks pods": "172.16.1.0/16"}, "networks.pods", "write 172.16.0.0/16"),
    ({"networks pods": "11.0.0.0/16"}, "networks.pods", "not private"),
    ({"networks pods": "fd00::/64"}, "networks.pods", "such as 192.168.1.0/24"),
    ({"networks services": "192.168.3.0/29"}, "networks.services", "prefix of /28 or less"),
    ({"networks services": "11.0.0.0/24"}, "networks.services", "not private"),
    ({"networks services": "169.254.0.0/24"}, "networks.services", "link-local"),
    ({"networks services": "224.1.0.0/24"}, "networks.services", "multicast"),
    ({"networks services": "240.0.0.0/24"}, "networks.services", "set aside for no use yet"),
    ({"networks pods": "127.0.0.0/16"}, "networks.pods", "loopback"),
    ({"networks pods_per_node": 26}, "networks.pods_per_node", "110 pods"),
    ({"networks pods_per_node": 12}, "networks.pods_per_node", "more addresses than"),
    ({"networks machines": GONE}, "networks.machines", "is missing"),
    ({"networks machines": None}, "networks.machines", "is empty"),
    ({"networks": "192.168.1.0/24"}, "networks", "write a mapping with machines, routed"),
    ({"networks": GONE}, "networks", "is missing"),
    (
        {"networks outside": True, "hypervisor": {"uri": "qemu:///system", "image": "base"}},
        "networks.outside",
        "leave it out",
    ),
    ({"networks outside": "yes please"}, "networks.outside", "true or false"),
    ({"flannel port": 10250}, "flannel.port", "belongs to kubelet"),
    ({"flannel port": 30001}, "flannel.port", "among the NodePorts"),
    ({"flannel port": 53}, "flannel.port", "the system's ports"),
    ({"flannel port": 65536}, "flannel.port", "from 1 to 65535"),
    # -- addresses
    ({"machines m1 address": "10.0.0.1"}, "machines.m1.address", "outside networks.machines"),
    ({"machines m1 address": "192.168.1.1"}, "machines.m1.address", "used by the gateway"),
    ({"machines m1 address": "192.168.1.0"}, "machines.m1.address", "the first of its network"),
    ({"machines m1 address": "192.168.1.255"}, "machines.m1.address", "the last of its network"),
    ({"machines m1 address": "192.168.1.10"}, "machines.m1.address", "used by master"),
    ({"machines m1 address": "192.168.1.256"}, "machines.m1.address", "such as 192.168.1.10"),
    ({"machines m1 address": "192.168.1.11/24"}, "machines.m1.address", "an IPv4 address"),
    ({"machines m1 address": GONE}, "machines.m1.address", "is missing"),
    ({"addons name_servers": ["127.0.0.53"]}, "addons.name_servers.0", "or nowhere"),
    ({"addons name_servers": ["172.16.0.10"]}, "addons.name_servers.0", "into the cluster"),
    ({"addons name_servers": ["192.168.1.255"]}, "addons.name_servers.0", "or nowhere"),
    ({"addons name_servers": ["0.0.0.0"]}, "addons.name_servers.0", "or nowhere"),
    ({"addons name_servers": ["::1"]}, "addons.name_servers.0", "an IPv4 address"),
    ({"addons name_servers": ["192.168.3.10"]}, "addons.name_servers.0", "into the cluster"),
    ({"addons name_servers": ["192.0.2.1"] * 16}, "addons.name_servers", "more than 15"),
    ({"addons": {"logs": True, "coredns": False}}, "addons.logs", "write coredns: true"),
    ({"addons": {"notebooks": True, "coredns": False}}, "addons.notebooks", "write coredns: true"),
    ({"addons notebooks": {"memory": 64}}, "addons.notebooks.memory", "256"),
    ({"addons notebooks": {"idle": 0}}, "addons.notebooks.idle", "5"),
    ({"addons notebooks": {"password": "secret"}}, "addons.notebooks.password", "a whole number"),
    (
        {"addons notebooks": {"certificate_names": ["192.168.1.10"]}},
        "addons.notebooks.certificate_names.0",
        "an address",
    ),
    (
        {"addons notebooks": {"certificate_names": ["kubernetes"]}},
        "addons.notebooks.certificate_names.0",
        "is a name of the cluster itself",
    ),
    ({"registries _default": {"user": "ann"}}, "registries._default.user", "by its name"),
    (
        {"registries r.example": {"user": "a:b"}},
        "registries.r.example.user",
        "the user's name alone",
    ),
    ({"registries r.example": {"user": ""}}, "registries.r.example.user", "the user's name alone"),
    ({ADDRESSES: []}, POOL, "is empty"),
    ({ADDRESSES: 7}, POOL, "write a range such as"),
    ({ADDRESSES: ["192.168.1.200-"]}, f"{POOL}.0", "write a range such as"),
    ({ADDRESSES: "192.168.1.9-192.168.1.2"}, f"{POOL}.0", "write a range such as"),
    ({ADDRESSES: "192.168.1.200/27"}, f"{POOL}.0", "write a range such as"),
    ({ADDRESSES: "::1-::9"}, f"{POOL}.0", "write a range such as"),
    ({ADDRESSES: "192.168.2.0/28"}, f"{POOL}.0", "not inside networks.machines 192.168.1.0/24"),
    ({ADDRESSES: "192.168.1.250-192.168.2.5"}, f"{POOL}.0", "not inside networks.machines"),
    (
        {
            "networks": {"machines": ["192.168.1.0/24", "192.168.2.0/24"]},
            ADDRESSES: "192.168.2.0/28",
        },
        f"{POOL}.0",
        "192.168.2.0/28 is in 192.168.2.0/24, where no node is",
    ),
    ({ADDRESSES: "192.168.1.240/28"}, f"{POOL}.0", "192.168.1.255, the last of its network"),
    ({ADDRESSES: "192.168.1.11"}, f"{POOL}.0", "192.168.1.11, the address of m1"),
    ({ADDRESSES: "192.168.1.1-192.168.1.3"}, f"{POOL}.0", "192.168.1.1, the address of the host"),
    ({ADDRESSES: FREE, "endpoint": VIRTUAL_203}, f"{POOL}.0", "the virtual IP of the API"),
    ({ADDRESSES: FREE, "endpoint": BALANCER_203}, f"{POOL}.0", "the API's balancer"),
    ({ADDRESSES: FREE, "networks name_servers": [AT_203]}, f"{POOL}.0", "networks.name_servers"),
    ({ADDRESSES: FREE, "networks time_servers": [AT_203]}, f"{POOL}.0", "networks.time_servers"),
    ({ADDRESSES: FREE, "addons name_servers": [AT_203]}, f"{POOL}.0", "addons.name_servers names"),
    (
        {ADDRESSES: FREE, "artifacts": {"mirror": f"http://{AT_203}:6480"}},
        f"{POOL}.0",
        "artifacts.mirror names",
    ),
    ({ADDRESSES: FREE, "proxy": {"https": f"http://{AT_203}:3128"}}, f"{POOL}.0", "proxy names"),
    (
        {ADDRESSES: FREE, "registries": {"docker.io": {"mirrors": [f"https://{AT_203}:5000"]}}},
        f"{POOL}.0",
        "registries.docker.io names",
    ),
    ({ADDRESSES: [FREE, "192.168.1.205"]}, f"{POOL}.1", f"overlaps {FREE}"),
    ({ADDRESSES: FREE, "flannel": {"port": 7946}}, "flannel.port", "addons.load_balancer"),
    # -- the way in
    ({INGRESS: {"address": AT_203}}, f"{ENTRY}.address", "without addons.load_balancer"),
    (
        {ADDRESSES: FREE, INGRESS: {"address": "192.168.1.206"}},
        f"{ENTRY}.address",
        f"write one of {FREE}",
    ),
    *(
        ({INGRESS: {"certificate_names": [name]}}, f"{ENTRY}.certificate_names.0", phrase)
        for name, phrase in {
            "192.168.1.11": "is an address",
            "Shop.example.org": "is no DNS name",
            "*.org.": "is no DNS name",
            "*.com": "is no DNS name",
            "a.*.org": "is no DNS name",
            "kubernetes": "a name of the cluster itself",
            "kubernetes.default.svc": "a name of the cluster itself",
            "web.shop.svc.cluster.local": "a name of the cluster itself",
            "*.svc.cluster.local": "a name of the cluster itself",
            "m1": "a name of the cluster itself",
            "localhost": "a name of the cluster itself",
        }.items()
    ),
    (
        {INGRESS: {"certificate_names": ["api.example.org"]}, "endpoint": BALANCER},
        f"{ENTRY}.certificate_names.0",
        "a name of the cluster itself",
    ),
    ({INGRESS: {"namespaces": ["Shop"]}}, f"{ENTRY}.namespaces.0", "a letter or digit at"),
    ({INGRESS: {"namespaces": ["a", ""]}}, f"{ENTRY}.namespaces.1", "no name of such an object"),
    (
        {INGRESS: {"default_backend": {**BACKEND, "service": "a.b"}}},
        f"{ENTRY}.default_backend.service",
        "there can be none",
    ),
    (
        {INGRESS: {"default_backend": {**BACKEND, "port": 0}}},
        f"{ENTRY}.default_backend.port",
        "a port from 1 to 65535",
    ),
    (
        {INGRESS: {"default_backend": BACKEND}, "addons coredns": False},
        f"{ENTRY}.default_backend",
        "write coredns: true",
    ),
    ({"networks name_servers": ["127.0.0.53"]}, "networks.name_servers.0", "or nowhere"),
    ({"networks name_servers": ["192.168.3.10"]}, "networks.name_servers.0", "into the cluster"),
    ({"networks name_servers": ["192.0.2.1"] * 4}, "networks.name_servers", "the first 3"),
    ({"networks time_servers": ["127.0.0.1"]}, "networks.time_servers.0", "or nowhere"),
    ({"networks time_servers": ["172.16.0.9"]}, "networks.time_servers.0", "into the cluster"),
    ({"networks time_servers": ["192.168.1.255"]}, "networks.time_servers.0", "or nowhere"),
    ({"networks time_servers": ["localhost"]}, "networks.time_servers.0", "or nowhere"),
    ({"networks time_servers": ["a.b.svc.cluster.local"]}, "networks.time_servers.0", "before the"),
    ({"networks time_servers": ["ntp://x"]}, "networks.time_servers.0", "without scheme"),
    ({"networks time_servers": ["NTP.example"]}, "networks.time_servers.0", "in lower case"),
    ({"networks time_servers": [7]}, "networks.time_servers.0", "an IPv4 address or a DNS name"),
    (
        {"addons": {"coredns": False, "name_servers": ["192.0.2.1"]}},
        "addons.name_servers",
        "nobody would ask them",
    ),
    ({"backup": {"every": "4m"}}, "backup.every", "from 5m to 30d"),
    ({"backup": {"every": "31d"}}, "backup.every", "more than a month"),
    ({"backup": {"every": "6 hours"}}, "backup.every", "6h"),
    ({"backup": {"every": 6}}, "backup.every", "in quotes"),
    ({"backup": {"keep": 0}}, "backup.keep", "from 1 to 1000"),
    ({"backup": {"to": {**COPIES, "host": "localhost"}}}, "backup.to.host", "or nowhere"),
    ({"backup": {"to": {**COPIES, "host": "127.0.0.1"}}}, "backup.to.host", "or nowhere"),
    ({"backup": {"to": {**COPIES, "host": "172.16.0.9"}}}, "backup.to.host", "into the cluster"),
    ({"backup": {"to": {**COPIES, "host": "192.168.1.10"}}}, "backup.to.host", "be lost with"),
    ({"backup": {"to": {**COPIES, "host": "master"}}}, "backup.to.host", "be lost with"),
    ({"backup": {"to": {**COPIES, "host": "sftp://x"}}}, "backup.to.host", "without user and"),
    ({"backup": {"to": {**COPIES, "host_key": "me"}}}, "backup.to.host_key", "no public host key"),
    ({"backup": {"to": {**COPIES, "directory": "a b"}}}, "backup.to.directory", "letters, digits"),
    ({"backup": {"to": {**COPIES, "directory": "-x"}}}, "backup.to.directory", "letters, digits"),
    ({"backup": {"to": {**COPIES, "bucket": "x"}}}, "backup.to.kind", "write sftp or s3"),
    ({"backup": {"to": {**COPIES, **BUCKET, "kind": "ftp"}}}, "backup.to.kind", "sftp or s3"),
    (
        {"backup": {"to": {**COPIES, "kind": "sftp", "region": "x"}}},
        "backup.to.region",
        "is a key of the kind s3, so it would have no effect with the kind sftp",
    ),
    (
        {"backup": {"to": {**BUCKET, "directory": "/srv"}}},
        "backup.to.directory",
        "leave it out, or write kind: sftp",
    ),
    ({"backup": {"to": {**BUCKET, "buckett": "x"}}}, "backup.to.buckett", "write bucket"),
    ({"backup": {"to": {"kind": "s3", "bucket": "abc"}}}, "backup.to.endpoint", "is missing"),
    *(
        ({"backup": {"to": {**BUCKET, "endpoint": url}}}, "backup.to.endpoint", why)
        for url, why in (
            ("http://s3.example.org", "a https URL without a path"),
            ("https://s3.example.org/path", "a https URL without a path"),
            ("https://me:s3cret@s3.example.org", "has a user in it"),
            ("https://s3.example.org:0", "from 1 to 65535"),
            ("https://s3_example.org", "an IPv4 address or a DNS name"),
            ("https://192.168.1.10:9000", "leads back into the cluster"),
            ("https://172.16.0.9", "leads back into the cluster"),
            ("https://localhost:9000", "or nowhere"),
            ("https://minio.store.svc.cluster.local", "be lost with the cluster"),
        )
    ),
    ({"backup": {"to": {**BUCKET, "bucket": "Backups"}}}, "backup.to.bucket", "lower-case"),
    ({"backup": {"to": {**BUCKET, "bucket": "a..b"}}}, "backup.to.bucket", "two dots"),
    ({"backup": {"to": {**BUCKET, "bucket": "10.0.0.1"}}}, "backup.to.bucket", "is an address"),
    ({"backup": {"to": {**BUCKET, "prefix": "/a"}}}, "backup.to.prefix", "a slash between two"),
    ({"backup": {"to": {**BUCKET, "prefix": "a/../b"}}}, "backup.to.prefix", "only dots"),
    ({"backup": {"to": {**BUCKET, "region": "a b"}}}, "backup.to.region", "a region's name"),
    ({"backup": {"to": {**BUCKET, "authority": "me"}}}, "backup.to.authority", "in PEM"),
    (
        {"backup": {"to": {**BUCKET, "path_style": False, "bucket": "a.b"}}},
        "backup.to.path_style",
        "has a dot in its name",
    ),
    (
        {"backup": {"to": {**BUCKET, "path_style": False, "endpoint": "https://8.8.8.8"}}},
        "backup.to.path_style",
        "the endpoint is an address",
    ),
    ({"networks mtu": 500}, "networks.mtu", "from 576 to 9000"),
    ({"networks mtu": 9001}, "networks.mtu", "from 576 to 9000"),
    ({"networks mtu": 1329}, "networks.mtu", "write 1330 or more"),
    ({"networks mtu": 9000}, "networks.mtu", "write 1500 or less"),
    ({"networks mtu": "1500"}, "networks.mtu", "a whole number"),
    # -- proxy
    ({"proxy": {}}, "proxy", "names no proxy"),
    ({"proxy http": "http://me:s3cret@proxy"}, "proxy.http", "has a user in it"),
    ({"proxy http": "http://localhost:3128"}, "proxy.http", "or nowhere"),
    ({"proxy http": "http://172.16.0.1:3128"}, "proxy.http", "into the cluster"),
    ({"proxy https": "http://proxy/path"}, "proxy.https", "without a path"),
    ({"proxy https": "socks5://proxy"}, "proxy.https", "a http or https URL"),
    ({"proxy https": "http://proxy:0"}, "proxy.https", "from 1 to 65535"),
    ({"proxy https": "http://a$b"}, "proxy.https", "no part of a host"),
    ({"proxy": {"http": "http://p", "no_proxy": ["*.a"]}}, "proxy.no_proxy.0", "no host, domain"),
    ({"proxy": {"http": "http://p", "no_proxy": ["a,b"]}}, "proxy.no_proxy.0", "no host, domain"),
    # -- registries
    ({"registries Example.org": {}}, "registries.Example.org", "no registry's name"),
    ({"registries": {"registry": {}}}, "registries.registry", "no registry's name"),
    ({"registries": {"a.example:0": {}}}, 'registries."a.example:0"', "no registry's name"),
    ({"registries": {"https://a.example": {}}}, 'registries."https://a.example"', "no registry's"),
    ({"registries": {"index.docker.io": {}}}, "registries.index.docker.io", "write docker.io"),
    (
        {"registries": {"docker.io": {"mirrors": ["http://m.example"]}}},
        "registries.docker.io.mirrors.0",
        "insecure: true",
    ),
    (
        {"registries": {"docker.io": {"mirrors": ["https://me:s3cret@m.example"]}}},
        "registries.docker.io.mirrors.0",
        "has a user in it",
    ),
    (
        {"registries": {"docker.io": {"mirrors": ["https://m.example/x?y"]}}},
        "registries.docker.io.mirrors.0",
        "has a query",
    ),
    (
        {"registries": {"docker.io": {"mirrors": ["https://localhost:5000"]}}},
        "registries.docker.io.mirrors.0",
        "every machine to itself",
    ),
    (
        {"registries": {"docker.io": {"authority": "certificate"}}},
        "registries.docker.io.authority",
        "no certificate in PEM",
    ),
    (
        {"registries": {"docker.io": {"authority": f"{PEM}-----BEGIN PRIVATE KEY-----"}}},
        "registries.docker.io.authority",
        "has a private key in it",
    ),
    (
        {"registries": {"docker.io": {"insecure": "yes"}}},
        "registries.docker.io.insecure",
        "write true or false",
    ),
    (
        {"runtime": "docker", "registries": {"_default": {}}},
        "registries._default",
        "runtime: containerd",
    ),
    (
        {"runtime": "docker", "registries": {"a.example": {"mirrors": ["https://m.example"]}}},
        "registries.a.example.mirrors",
        "of docker.io alone",
    ),
    (
        {"runtime": "docker", "registries": {"docker.io": {"mirrors": ["https://m.example/x"]}}},
        "registries.docker.io.mirrors.0",
        "has a path",
    ),
    # -- endpoint
    ({"endpoint": {**VIRTUAL, "address": "10.0.0.9"}}, "endpoint.address", "outside networks"),
    ({"endpoint": {**VIRTUAL, "address": "192.168.1.1"}}, "endpoint.address", "by the gateway"),
    ({"endpoint": {**VIRTUAL, "address": "192.168.1.255"}}, "endpoint.address", "the last"),
    ({"endpoint": {**VIRTUAL, "address": "192.168.1.11"}}, "endpoint.address", "address of m1"),
    ({"endpoint": {**BALANCER, "host": "192.168.1.10"}}, "endpoint.host", "address of master"),
    ({"endpoint": {**BALANCER, "host": "172.16.0.9"}}, "endpoint.host", "networks.pods"),
    ({"endpoint": {**BALANCER, "host": "192.168.3.9"}}, "endpoint.host", "networks.services"),
    ({"endpoint": {**BALANCER, "host": "192.168.1.0"}}, "endpoint.host", "the first of networks"),
    ({"endpoint": {**BALANCER, "host": "192.168.1.255"}}, "endpoint.host", "the last of networks"),
    ({"endpoint": {**BALANCER, "host": "master"}}, "endpoint.host", "name of a machine of this"),
    ({"endpoint": {**BALANCER, "host": "m1"}}, "endpoint.host", "name of a machine of this"),
    (
        {"endpoint": {**BALANCER, "host": "kubernetes.default.svc.cluster.local"}},
        "endpoint.host",
        "the name of a Service",
    ),
    ({"endpoint": {**BALANCER, "host": "0.0.0.0"}}, "endpoint.host", "to itself"),
    ({"endpoint": {**BALANCER, "host": "255.255.255.255"}}, "endpoint.host", "to itself"),
    ({"endpoint": {**BALANCER, "host": "224.0.0.18"}}, "endpoint.host", "to itself"),
    ({"endpoint": {**BALANCER, "host": "0x7f000001"}}, "endpoint.host", "neither an IPv4 address"),
    ({"endpoint": {**BALANCER, "host": "10.1"}}, "endpoint.host", "neither an IPv4 address"),
    ({"endpoint": {**BALANCER, "host": ""}}, "endpoint.host", "neither an IPv4 address"),
    ({"endpoint": {**BALANCER, "host": " api"}}, "endpoint.host", "neither an IPv4 address"),
    ({"endpoint": {**BALANCER, "host": "api."}}, "endpoint.host", "neither an IPv4 address"),
    ({"endpoint": {**BALANCER, "port": 80800}}, "endpoint.port", "from 1 to 65535"),
    ({"endpoint": {**BALANCER, "host": "127.0.0.1"}}, "endpoint.host", "to itself"),
    ({"endpoint": {**BALANCER, "host": "localhost"}}, "endpoint.host", "to itself"),
    ({"endpoint": {**BALANCER, "host": "https://api"}}, "endpoint.host", "without scheme"),
    ({"endpoint": {**BALANCER, "host": "api:6443"}}, "endpoint.host", "without scheme and port"),
    ({"endpoint": {**BALANCER, "host": "API.example.org"}}, "endpoint.host", "lower case"),
    ({"endpoint": {**BALANCER, "host": "300.1.1.1"}}, "endpoint.host", "neither an IPv4 address"),
    ({"endpoint": {**BALANCER, "host": "fd00::1"}}, "endpoint.host", "neither an IPv4 address"),
    ({"endpoint": {**BALANCER, "port": 0}}, "endpoint.port", "from 1 to 65535"),
    ({"endpoint": {"kind": "dns", "host": "x"}}, "endpoint.kind", "virtual-ip or balancer"),
    ({"endpoint": {"address": "192.168.1.100"}}, "endpoint.kind", "is missing"),
    ({"endpoint": "192.168.1.100"}, "endpoint", "write a mapping"),
    (
        {"machines b": CONTROL, "machines c": CONTROL_2},
        "endpoint",
        "control planes b, c and master",
    ),
    # -- roles
    ({"machines": {}}, "machines", "no machine in it"),
    ({"machines": []}, "machines", "write a mapping"),
    ({"machines": GONE}, "machines", "is missing"),
    ({"machines master roles": "i"}, "machines.m1.roles", "nothing would serve the API"),
    ({"machines master roles": "a", "machines m1": GONE}, "machines.master.roles", "has no minion"),
    ({"machines m1 roles": []}, "machines.m1.roles", "is empty"),
    ({"machines m1 roles": "ix"}, "machines.m1.roles", "the letters e, a and i"),
    ({"machines m1 roles": ["worker"]}, "machines.m1.roles", "etcd, control-plane or minion"),
    ({"machines m1 roles": 5}, "machines.m1.roles", "such as ai"),
    (
        {"machines m1 roles": "ie", "machines master roles": "aie"},
        "machines.master.roles",
        "2 etcd",
    ),
    ({"machines b": CONTROL, "endpoint": VIRTUAL}, "machines.master.roles", "2 etcd members"),
    # -- sizes
    ({"machines master memory": 1023}, "machines.master.memory", "at least 1024, in MiB"),
    ({"machines m1 memory": 511}, "machines.m1.memory", "at least 512, in MiB"),
    ({"machines m1 memory": 2}, "machines.m1.memory", "too little for minion"),
    ({"machines m1 memory": 2**31}, "machines.m1.memory", "more MiB than any host has"),
    ({"machines m1 memory": "2G"}, "machines.m1.memory", "a whole number"),
    ({"machines m1 memory": 2048.5}, "machines.m1.memory", "a whole number"),
    ({"machines master disk": 7}, "machines.master.disk", "at least 8, in GiB"),
    ({"machines m1 disk": 5}, "machines.m1.disk", "at least 6, in GiB"),
    ({"machines m1 disk": 10**9}, "machines.m1.disk", "more GiB than"),
    ({"machines m1 cpus": 0}, "machines.m1.cpus", "from 1 to 128"),
    ({"machines m1 cpus": True}, "machines.m1.cpus", "a whole number"),
    ({"machines m1 cpus": "2"}, "machines.m1.cpus", "a whole number"),
    ({"machines m1 disk": 0}, "machines.m1.disk", "at least 6, in GiB"),
    ({"machines m1 disk": -1}, "machines.m1.disk", "at least 6, in GiB"),
    ({"machines m1 cpus": 129}, "machines.m1.cpus", "from 1 to 128"),
    ({"hypervisor": EXISTING, "machines m1 memory": 4096}, "machines.m1.memory", "no effect"),
    ({"hypervisor": EXISTING, "machines m1 disk": 10}, "machines.m1.disk", "exists already"),
    ({"hypervisor": EXISTING, "machines m1 cpus": 1}, "machines.m1.cpus", "leave it out"),
    # -- labels and taints
    ({"machines m1 labels": {"a b": "x"}}, 'machines.m1.labels."a b"', "no key"),
    ({"machines m1 labels": {"": "x"}}, 'machines.m1.labels.""', "no key"),
    ({"machines m1 labels": {"x" * 64: "x"}}, "machines.m1.labels", "no key"),
    ({"machines m1 labels": {"Example.org/x": "x"}}, "machines.m1.labels.Example.org/x", "no key"),
    ({"machines m1 labels": {"x": "a b"}}, "machines.m1.labels.x", "does not take"),
    ({"machines m1 labels": {"x": True}}, "machines.m1.labels.x", "in quotes"),
    (
        {"machines m1 labels": {"node-role.kubernetes.io/worker": ""}},
        "machines.m1.labels.node-role.kubernetes.io/worker",
        "such as example.org/worker",
    ),
    ({"machines m1 labels": {"k8s.io/x": "1"}}, "machines.m1.labels.k8s.io/x", "Kubernetes' own"),
    (
        {"machines m1 labels": {"kubernetes.io/hostname": "x"}},
        "machines.m1.labels.kubernetes.io/hostname",
        "finds out for itself",
    ),
    ({"machines m1 labels": ["x"]}, "machines.m1.labels", "write a mapping"),
    (
        {"machines m1 taints": [{**TAINT, "effect": "Never"}]},
        "machines.m1.taints.0.effect",
        "NoSch",
    ),
    ({"machines m1 taints": [{**TAINT, "key": "a/b/c"}]}, "machines.m1.taints.0.key", "no key"),
    ({"machines m1 taints": [{**TAINT, "value": "é"}]}, "machines.m1.taints.0.value", "not take"),
    ({"machines m1 taints": [TAINT, TAINT]}, "machines.m1.taints.1", "of an earlier one"),
    (
        {"machines m1 taints": [{**TAINT, "key": "node.kubernetes.io/not-ready"}]},
        "machines.m1.taints.0.key",
        "by Kubernetes' controllers",
    ),
    ({"machines m1 taints": {"key": "x"}}, "machines.m1.taints", "write a list"),
    (
        {"machines master taints": [TAINT], "machines m1 taints": [TAINT]},
        "machines.m1.taints",
        "the cluster's own DNS",
    ),
    (
        {"machines e": {**MACHINE, "roles": "e", "labels": {"x": "1"}}},
        "machines.e.labels",
        "no node",
    ),
    ({"machines e": {**MACHINE, "roles": "e", "taints": [TAINT]}}, "machines.e.taints", "no node"),
    # -- unknown keys
    ({"kubernets": "1.37.1"}, "kubernets", "write kubernetes"),
    ({"flanel": {}}, "flanel", "write flannel"),
    ({"networks machine": "10.0.0.0/24"}, "networks.machine", "write machines"),
    ({"machines m1 ram": 1}, "machines.m1.ram", "write address, roles, cpus"),
    ({"machines m1 cpu": 1}, "machines.m1.cpu", "write cpus"),
    ({"machines m1 taints": [{**TAINT, "efect": 1}]}, "machines.m1.taints.0.efect", "write effect"),
    ({"hypervisor": {**LIBVIRT, "domain": "kvm"}}, "hypervisor.domain", "write domain_type"),
    ({"endpoint": {**BALANCER, "ports": 1}}, "endpoint.ports", "write port"),
    ({"artifacts digest": {}}, "artifacts.digest", "write digests"),
    # -- where machines run, and from what
    ({"hypervisor": {"kind": "vmware"}}, "hypervisor.kind", "libvirt, virtualbox or existing"),
    ({"hypervisor": {"image": "x"}}, "hypervisor.uri", "such as qemu:///system"),
    ({"hypervisor": {**LIBVIRT, "uri": "/system"}}, "hypervisor.uri", "such as qemu:///system"),
    ({"hypervisor": {**LIBVIRT, "domain_type": "xen"}}, "hypervisor.domain_type", "kvm or qemu"),
    ({"hypervisor": {**LIBVIRT, "uri": "qemu://"}}, "hypervisor.uri", "such as qemu:///system"),
    ({"hypervisor": {**LIBVIRT, "uri": "qemu:///"}}, "hypervisor.uri", "such as qemu:///system"),
    ({"hypervisor": {**LIBVIRT, "uri": "lxc:///system"}}, "hypervisor.uri", "QEMU driver"),
    ({"hypervisor": {**LIBVIRT, "uri": "qemu:///system "}}, "hypervisor.uri", "such as qemu"),
    *(
        ({"hypervisor": {**LIBVIRT, "image": image}}, "hypervisor.image", "the name alone of")
        for image in (
            *("", " base", "base\n", "images/base.qcow2", "https://example.org/base.qcow2"),
            "/var/lib/libvirt/images/base.qcow2",
        )
    ),
    ({"hypervisor": {**LIBVIRT, "image": "dev-m1.qcow2"}}, "hypervisor.image", "the disk of m1"),
    ({"hypervisor": {**LIBVIRT, "pool": ""}}, "hypervisor.pool", "a name as virsh lists it"),
    ({"hypervisor": {**LIBVIRT, "pool": "/images"}}, "hypervisor.pool", "a name as virsh lists it"),
    (
        {"hypervisor": {**LIBVIRT, "kernel": "vmlinuz", "initrd": "/i"}},
        "hypervisor.kernel",
        "an absolute path",
    ),
    (
        {"hypervisor": {**LIBVIRT, "kernel": "/k", "initrd": "./i"}},
        "hypervisor.initrd",
        "an absolute path",
    ),
    ({"hypervisor": {**LIBVIRT, "console_logs": "log"}}, "hypervisor.console_logs", "absolute"),
    ({"hypervisor": {**LIBVIRT, "console_logs": "/a'b"}}, "hypervisor.console_logs", "quotes"),
    ({"hypervisor": {**LIBVIRT, "console_logs": "/a&b"}}, "hypervisor.console_logs", "and &"),
    ({"hypervisor": {**LIBVIRT, "kernel": "/k"}}, "hypervisor.kernel", "without initrd"),
    (
        {"hypervisor": {"uri": LIBVIRT["uri"], "kernel": "/k", "initrd": "/i"}},
        "hypervisor",
        "has a kernel or a format and no image",
    ),
    (
        {"hypervisor": {"uri": LIBVIRT["uri"], "image_format": "raw"}},
        "hypervisor",
        "leave kernel, initrd and image_format out",
    ),
    ({"hypervisor": {**LIBVIRT, "initrd": "/i"}}, "hypervisor.initrd", "without kernel"),
    (
        {"hypervisor": {**LIBVIRT, "kernel_arguments": ["quiet"]}},
        "hypervisor.kernel_arguments",
        "without kernel",
    ),
    (
        {"hypervisor": {**LIBVIRT, "kernel": "/k", "initrd": "/i", "kernel_arguments": ["a b"]}},
        "hypervisor.kernel_arguments.0",
        "one word of a kernel's command line",
    ),
    (
        {**APART, "machines m1 hypervisor": {**LIBVIRT, "kernel": "/k"}},
        "machines.m1.hypervisor.kernel",
        "in",
    ),
    ({"hypervisor": {"kind": "virtualbox", "image": "a.img"}}, "hypervisor.image", "VDI or VMDK"),
    (
        {"hypervisor": {"kind": "virtualbox", "image": "a.vdi", "kernel": "/k"}},
        "hypervisor.kernel",
        "",
    ),
    ({"hypervisor": {**EXISTING, "user": "Root"}}, "hypervisor.user", "lower case"),
    ({"hypervisor": {**EXISTING, "port": 2379}}, "hypervisor.port", "belongs to etcd"),
    (
        {"hypervisor": {**EXISTING, "port": 8000}, "addons notebooks": True},
        "hypervisor.port",
        "belongs to addons.notebooks",
    ),
    (
        {"hypervisor": {**EXISTING, "port": 443}, INGRESS: True},
        "hypervisor.port",
        "belongs to addons.ingress",
    ),
    (
        {**APART, "machines m1 hypervisor": {**ELSEWHERE, "port": 2380}},
        "machines.m1.hypervisor.port",
        "belongs to etcd",
    ),
    ({"hypervisor": {**EXISTING, "port": 31000}}, "hypervisor.port", "the NodePorts"),
    ({"hypervisor": EXISTING, "machines m2": MACHINE}, "hypervisor.host_keys", "no key of m2"),
    (
        {"hypervisor": EXISTING, "machines m1": GONE},
        "hypervisor.host_keys.192.168.1.11",
        "no machine",
    ),
    (
        {"hypervisor": EXISTING, "hypervisor host_keys 192.168.1.10": "ssh-ed25519 AAAA"},
        "hypervisor.host_keys.192.168.1.10",
        "no public host key",
    ),
    (
        {
            "hypervisor": {
                **EXISTING,
                "bastion": {"address": "203.0.113.7", "host_key": "ssh-ed25519 AAAA"},
            }
        },
        "hypervisor.bastion.host_key",
        "no public host key",
    ),
    (
        {**APART, "machines m1 hypervisor": {"kind": "existing"}},
        "machines.m1.hypervisor.host_keys",
        "of m1",
    ),
    # -- a bridge of the host's own network
    ({"networks bridge": "br0", **ROUTER}, "networks.bridge", "and master is left to the lab"),
    ({**BRIDGED, "networks bridge": "br/0"}, "networks.bridge", "such as br0"),
    ({**BRIDGED, "networks bridge": "x" * 16}, "networks.bridge", "such as br0"),
    ({**BRIDGED, "networks routed": True}, "networks.routed", "stands beside networks.bridge br0"),
    ({**BRIDGED, "networks routed": False}, "networks.routed", "with a bridge it makes none"),
    ({**BRIDGED, "networks outside": True}, "networks.outside", "leave it out"),
    ({**BRIDGED, "networks machines": SUBNETS}, "networks.machines", "leads to one network"),
    ({"networks bridge": "br0", "hypervisor": LIBVIRT}, "networks.gateway", "is not given beside"),
    ({**BRIDGED, "networks gateway": "192.168.2.1"}, "networks.gateway", "is outside"),
    ({**BRIDGED, "networks gateway": "192.168.1.255"}, "networks.gateway", "is reserved"),
    ({**BRIDGED, "networks gateway": "192.168.1.11"}, "machines.m1.address", "by the gateway"),
    (ROUTER, "networks.gateway", "without networks.bridge"),
    (
        {**BRIDGED, "machines m1 hypervisor": EXISTING_M1},
        "networks.bridge",
        "m1 is of the kind existing",
    ),
    (
        {**BRIDGED, "hypervisor": {"kind": "virtualbox", "image": "a.vdi"}},
        "networks.bridge",
        "master is of the kind virtualbox",
    ),
    (
        {**BRIDGED, "hypervisor": {**LIBVIRT, "uri": "qemu+tls://h2/system"}},
        "hypervisor.uri",
        "write qemu+ssh://root@h2/system",
    ),
    (
        {**BRIDGED, "machines m1 hypervisor": {**LIBVIRT, "uri": "qemu://h2/system"}},
        "machines.m1.hypervisor.uri",
        "could not be asked for the bridge",
    ),
    (
        {**BRIDGED, ADDRESSES: ["192.168.1.254"]},
        POOL,
        "the address of the gateway",
    ),
    # -- machines in several places
    (
        {"machines m1 hypervisor": EXISTING_M1},
        "networks.routed",
        "nothing comes into a network behind NAT",
    ),
    (
        {**APART, "networks routed": False, "machines m1 hypervisor": FAR},
        "networks.routed",
        "master and m1 are not in the same network",
    ),
    (
        {"networks machines": SUBNETS, "machines m1 address": "10.1.0.11"},
        "networks.routed",
        "write true, a subnet for each place",
    ),
    (
        {"networks routed": True, "machines m1 hypervisor": FAR},
        "machines.m1.address",
        "write an address of another subnet",
    ),
    (
        {**APART, "machines m1 hypervisor": {"kind": "virtualbox", "image": "a.vdi"}},
        "networks.routed",
        "is true, and m1 is on VirtualBox",
    ),
    (
        {"networks routed": True, "hypervisor": EXISTING},
        "networks.routed",
        "it would have no effect",
    ),
    (
        {**APART, "hypervisor": LIBVIRT, "machines m1 hypervisor": {**LIBVIRT, "pool": "fast"}},
        "machines.m1.hypervisor",
        "write the same as for master",
    ),
    # -- libvirt on another host
    ({"hypervisor": far("root@h", "no_verify=1")}, "hypervisor.uri", "any host key would do"),
    ({"hypervisor": far("root@h", "known_hosts=/k")}, "hypervisor.uri", "write knownhosts=/path"),
    ({"hypervisor": far("root@h", "command=/x")}, "hypervisor.uri", "would pass over it"),
    ({"hypervisor": far("root@h", "keyfile=k")}, "hypervisor.uri", "no absolute path"),
    ({"hypervisor": far("h")}, "hypervisor.uri", "write qemu+ssh://root@h/system"),
    ({"hypervisor": far("root:s3cret@h")}, "hypervisor.uri", "has a password in it"),
    (
        {**APART, "machines m1 hypervisor": {**FAR, "uri": "qemu+libssh2://root@h/system"}},
        "machines.m1.hypervisor.uri",
        "the transport libssh2",
    ),
    # -- several subnets
    ({"networks machines": []}, "networks.machines", "or a list of several"),
    ({"networks machines": ["192.168.1.0/24", "10.1.7.0"]}, "networks.machines.1", "10.1.7.0/24"),
    (
        {"networks machines": ["192.168.1.0/24", "192.168.1.64/26"]},
        "networks.machines.1",
        "overlaps networks.machines.0",
    ),
    ({"networks machines": ["192.168.1.0/24", "172.16.4.0/24"]}, "networks.pods", "machines.1"),
    (
        {**APART, "machines m1 address": "10.2.0.11"},
        "machines.m1.address",
        "outside networks.machines 192.168.1.0/24 or 10.1.0.0/24",
    ),
    ({**APART, "machines m1 address": "10.1.0.1"}, "machines.m1.address", "by the gateway"),
    ({**APART, "machines m1 address": "10.1.0.255"}, "machines.m1.address", "the last of its"),
    (
        {**APART, "networks machines": ["192.168.1.0/24", "11.1.0.0/24"]}
        | {"machines m1 address": "11.1.0.11"},
        "networks.machines.1",
        "is not private",
    ),
    ({**APART, "flannel backend": "host-gw"}, "flannel.backend", "in 2 subnets"),
    (
        {**APART, "endpoint": VIRTUAL, "machines m1 roles": "ai"}
        | {"machines m2": {"address": "192.168.1.12", "roles": "a"}},
        "endpoint.address",
        "the control plane m1 in 10.1.0.0/24",
    ),
    (
        {**APART, "endpoint": {**BALANCER, "host": "10.1.0.255"}},
        "endpoint.host",
        "the last of networks.machines 10.1.0.0/24",
    ),
    ({"base_image": {"source": "a.img"}}, "base_image", "write the sha256 or sha512"),
    ({"base_image": {"source": "a.img", "sha256": "12"}}, "base_image.sha256", "64 hexadecimal"),
    (
        {"base_image": {"source": "ftp://a/b", "sha256": DIGEST}},
        "base_image.source",
        "http or https",
    ),
    (
        {"base_image": {"source": "a.img", "sha256": DIGEST}, "hypervisor": EXISTING},
        "base_image",
        "would never be read",
    ),
    (
        {"base_image": {"source": "a.img", "sha256": DIGEST}, "hypervisor": LIBVIRT},
        "base_image",
        "write the image into hypervisor",
    ),
    ({"artifacts mirror": "http://mirror/"}, "artifacts.mirror", "without a slash at its end"),
    ({"artifacts mirror": "mirror"}, "artifacts.mirror", "a http or https URL"),
    ({"artifacts mirror": "http:///files"}, "artifacts.mirror", "has no host"),
    ({"artifacts mirror": "http://:80"}, "artifacts.mirror", "has no host"),
    ({"artifacts mirror": "http://[::1"}, "artifacts.mirror", "has no host"),
    ({"artifacts mirror": "http://300.1.1.1"}, "artifacts.mirror", "has no host"),
    ({"artifacts mirror": "http://127.1"}, "artifacts.mirror", "has no host"),
    ({"artifacts mirror": "http://[fd00::1]:80"}, "artifacts.mirror", "an IPv6 address"),
    *(
        ({"artifacts mirror": f"http://mirror:{port}{path}"}, "artifacts.mirror", "from 1 to 65535")
        for port in ("80800", "65536", "0", "-1", "http")
        for path in ("", "/files")
    ),
    *(
        ({"artifacts mirror": f"http://{host}:6480"}, "artifacts.mirror", "to itself at best")
        for host in (
            *("localhost", "LocalHost", "localhost.", "mirror.localhost", "127.0.0.1", "127.1.2.3"),
            *("0.0.0.0", "169.254.1.1", "224.0.0.1", "255.255.255.255"),
        )
    ),
    ({"artifacts mirror": "http://m1/x"}, "artifacts.mirror", "the name of a machine"),
    ({"artifacts mirror": "http://172.16.0.9"}, "artifacts.mirror", "inside networks.pods"),
    ({"artifacts mirror": "http://192.168.3.9"}, "artifacts.mirror", "inside networks.services"),
    ({"artifacts mirror": "http://192.168.1.255"}, "artifacts.mirror", "the last of networks"),
    ({"artifacts mirror": "http://mirror/x?y=1"}, "artifacts.mirror", "has a query"),
    ({"artifacts mirror": "http://mirror/x#y"}, "artifacts.mirror", "or a fragment"),
    ({"artifacts mirror": "http://me:secret@mirror/x"}, "artifacts.mirror", "has a user in it"),
    (
        {"base_image": {"source": "https://me:secret@mirror/x", "sha256": DIGEST}},
        "base_image.source",
        "has a user in it",
    ),
    (
        {"base_image": {"source": "https:///x", "sha256": DIGEST}},
        "base_image.source",
        "has no host",
    ),
    (
        {"base_image": {"source": "https://mirror:80800/x", "sha256": DIGEST}},
        "base_image.source",
        "from 1 to 65535",
    ),
    ({"artifacts digests": {"kubelet-1.37.1": "x"}}, "artifacts.digests.kubelet-1.37.1", "64"),
    (
        {"artifacts digests": {"kubelet-1.37.1": DIGEST.upper()}},
        "artifacts.digests.kubelet-1.37.1",
        "in lower case",
    ),
    (
        {"artifacts digests": {"kublet-1.37.1": DIGEST}},
        "artifacts.digests.kublet-1.37.1",
        "kubelet-",
    ),
    ({"artifacts digests": {"kubelet": DIGEST}}, "artifacts.digests.kubelet", "kubelet-<version>"),
]


def test_the_spec_that_the_cases_change_is_good() -> None:
    assert refused(GOOD) == []
    for endpoint in (VIRTUAL, BALANCER):
        assert refused({**GOOD, "endpoint": endpoint}) == []
    for hypervisor in (LIBVIRT, EXISTING):
        assert refused({**GOOD, "hypervisor": hypervisor}) == []
    assert refused(changed({"machines m1 taints": [TAINT], "machines m1 labels": {"x": ""}})) == []


@pytest.mark.parametrize(("changes", "field", "phrase"), ONE)
def test_a_mistake_is_refused_in_one_sentence(
    changes: dict[str, Any], field: str, phrase: str
) -> None:
    sentences = refused(changed(changes))
    assert len(sentences) == 1, sentences
    check(sentences[0])
    assert sentences[0].startswith(field)
    assert phrase in sentences[0]


# What one mistake drags along.
SEVERAL = [
    ({"machines Master": MACHINE}, ["machines.Master has upper", "machines.Master is master in"]),
    ({"networks machines": "192.168.1.8/30"}, ["networks.machines", "machines.m1.address"]),
    ({"networks machines": "192.168.1.10/32"}, ["networks.machines", "machines.m1.address"]),
    (
        {"networks machines": "8.8.8.0/24"},
        ["networks.machines 8.8.8.0/24 is not private", "is outside"],
    ),
    (
        {"networks machines": "0.0.0.0/0"},
        ["networks.machines", "networks.pods", "networks.services"],
    ),
    ({"machines 1": MACHINE, "machines": {1: MACHINE}}, ["machines.1 is not text"]),
    ({"machines": {True: MACHINE}}, ["machines.true is not text"]),
    (
        {"hypervisor": {**EXISTING, "host_keys": {"m1": ED25519}}},
        ["hypervisor.host_keys.m1", "no key of m1", "no key of master"],
    ),
    ({"base_image": {}}, ["base_image.source is missing", "base_image has no digest"]),
]


@pytest.mark.parametrize(("changes", "parts"), SEVERAL)
def test_what_follows_from_a_mistake_is_told_too(changes: dict[str, Any], parts: list[str]) -> None:
    sentences = refused(changed(changes))
    for sentence in sentences:
        check(sentence)
        assert any(part in sentence for part in parts), sentence
    for part in parts:
        assert any(part in sentence for sentence in sentences), sentences


INDEPENDENT: list[dict[str, Any]] = [
    {"name": "Dev"},
    {"kubernetes": 1.37},
    {"dns_domain": "X"},
    {"networks services": "169.254.0.0/24"},
    {"flannel port": 10250},
    {"flannel vni": 0},
    {"endpoint": {"kind": "balancer", "host": "https://api", "port": 0}},
    {"machines m1 memory": 1},
    {"machines m1 disk": "10"},
    {"machines m1 labels": {"k8s.io/x": "1", "y": 1}},
    {"machines m2": {"address": "192.168.1.11", "ram": 1}},
    {"machines m3": None},
    {"hypervisor": {**LIBVIRT, "kernel": "/k", "domain_type": "xen"}},
    {"machines m4": {"address": "10.0.0.1", "hypervisor": {"kind": "vmware"}}},
    {"artifacts digests": {"kublet-1.37.1": DIGEST, "kubelet-1.37.1": "x"}},
]


def test_no_mistake_hides_another() -> None:
    """Each is told with the very sentences that it is told with alone."""
    together = refused(changed({k: v for changes in INDEPENDENT for k, v in changes.items()}))
    for changes in INDEPENDENT:
        alone = refused(changed(changes))
        assert alone
        assert set(alone) <= set(together), set(alone) - set(together)
    assert len(together) == len(set(together))


def test_a_suggested_address_is_taken() -> None:
    (sentence,) = refused(changed({"machines m1 address": "192.168.1.10"}))
    suggestion = sentence.rpartition("write ")[2].split(",")[0]
    assert refused(changed({"machines m1 address": suggestion})) == []


def test_a_suggested_network_is_taken() -> None:
    for field in ("pods", "services"):
        (sentence,) = refused(changed({f"networks {field}": "127.0.0.0/16"}))
        assert refused(changed({f"networks {field}": sentence.rpartition(" ")[2]})) == []


@pytest.mark.parametrize("store", ["etcd", "kubernetes"])
@pytest.mark.parametrize("minions", [1, 2, 3, 4, 7, 8, 15])
def test_a_suggested_pods_network_has_room(store: str, minions: int) -> None:
    machines = {
        f"m{number}": {"address": f"192.168.1.{number + 20}", "roles": "i"}
        for number in range(minions)
    }
    value = changed({"flannel store": store})
    value["machines"].update(machines)
    value["networks"]["pods"] = "172.16.0.0/24"
    (sentence,) = refused(value)
    largest = int(sentence.partition("prefix of /")[2].split(" ")[0])
    value["networks"]["pods"] = f"172.16.0.0/{largest}"
    assert refused(value) == []
    value["networks"]["pods"] = f"172.16.0.0/{largest + 1}"
    assert len(refused(value)) == 1


def test_nothing_of_a_private_key_is_told() -> None:
    secret = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END"
    keys = {"192.168.1.10": secret, "192.168.1.11": secret}
    for changes in (
        {"hypervisor": {"kind": "existing", "host_keys": keys}},
        {"hypervisor": {"kind": "existing", "host_keys": secret}},
        {"name": secret},
        {"networks": secret},
        {"machines m1 labels": {"x": secret}},
    ):
        sentences = refused(changed(changes))
        assert sentences
        assert "b3Blbn" not in "".join(sentences)


def test_nothing_of_a_password_in_a_url_is_told() -> None:
    url = "https://me:s3cret@mirror"
    for changes in (
        {"artifacts mirror": f"{url}:80800/x?y"},
        {"artifacts mirror": f"{url}/"},
        {"base_image": {"source": f"{url}:0/x", "sha256": DIGEST}},
        {"hypervisor": {**LIBVIRT, "uri": url}},
        {"endpoint": {**BALANCER, "host": url}},
        {"proxy": {"http": url}},
        {"proxy": {"https": f"{url}/x"}},
        {"registries": {"docker.io": {"mirrors": [url]}}},
    ):
        sentences = refused(changed(changes))
        assert sentences
        assert "s3cret" not in "".join(sentences)


TAKEN: list[dict[str, Any]] = [
    *({"artifacts mirror": url} for url in ("http://mirror", "https://192.168.1.11:8443/a/b")),
    *({"artifacts mirror": url} for url in ("http://192.168.1.1:6480", "http://My_Mirror:8080")),
    {"endpoint": {**BALANCER, "host": "192.168.1.1"}},
    {"endpoint": {**BALANCER, "host": "api.cluster.local"}},
    {"endpoint": {**BALANCER, "host": "master.example.org"}},
    {"base_image": {"source": "https://[fd00::1]:80/a?signature=x", "sha256": DIGEST}},
    {"base_image": {"source": "images/a.img", "sha256": DIGEST}},
    {"hypervisor": {**LIBVIRT, "image": "debian 12.qcow2", "pool": "fast disks"}},
    {"hypervisor": {**LIBVIRT, "uri": "qemu+ssh://root@[fd00::1]:2222/system?keyfile=/k"}},
    {"hypervisor": {**LIBVIRT, "kernel": "/it's/k", "initrd": "/i", "console_logs": "/var/log"}},
    {"networks machines": "192.168.1.0/255.255.255.0"},
    {"addons name_servers": ["192.168.1.1", "192.168.1.11", "9.9.9.9"]},
    {"networks name_servers": ["192.168.1.1", "192.168.1.11", "9.9.9.9"]},
    {"networks time_servers": ["192.168.1.1", "ntp.example.org"]},
    {"proxy": {"http": "http://192.168.1.1:3128", "no_proxy": [".a.example", "10.0.0.0/8"]}},
    {"backup": {}},
    {"backup": {"every": "30d", "keep": 1, "to": COPIES}},
    {"backup": {"to": {**COPIES, "kind": "sftp"}}},
    {"backup": {"to": BUCKET}},
    {"backup": {"to": {**BUCKET, "endpoint": "https://192.168.1.1:9000", "authority": PEM}}},
    {"backup": {"to": {**BUCKET, "path_style": False, "prefix": "a/b.c", "region": "auto"}}},
    {"backup": {"every": "5m", "to": {**COPIES, "host": "192.168.1.1", "directory": "x"}}},
    BRIDGED,
    {**BRIDGED, "machines m1 hypervisor": FAR, "machines m1 address": "192.168.1.1"},
    {
        **BRIDGED,
        "networks machines": "8.8.8.0/24",
        "networks gateway": "8.8.8.1",
        "machines master address": "8.8.8.10",
        "machines m1 address": "8.8.8.11",
    },
    {"networks mtu": 1330},
    {"networks mtu": 576, "flannel backend": "host-gw"},
    {"networks mtu": 9000, "hypervisor": EXISTING},
    {"registries": {"a.example:5000": {"authority": PEM + PEM}, "10.0.0.1": {}, "_default": {}}},
    {"registries": {"quay.io": {"insecure": True, "mirrors": ["http://m:5000/v2/quay"]}}},
    {"runtime": "docker", "registries": {"docker.io": {"mirrors": ["https://m.example:5000"]}}},
]


@pytest.mark.parametrize("changes", TAKEN)
def test_what_living_clusters_can_have_is_taken(changes: dict[str, Any]) -> None:
    assert refused(changed(changes)) == []


def test_a_mistake_elsewhere_gives_an_existing_machine_no_size() -> None:
    changes = {"hypervisor": EXISTING, "machines m1 labels": {"x": 1}}
    (sentence,) = refused(changed(changes))
    assert sentence.startswith("machines.m1.labels.x ")


def test_a_machines_disk_is_known_by_its_name() -> None:
    image = volume(domain_name("dev", "m1"))
    (sentence,) = refused(changed({"hypervisor": {**LIBVIRT, "image": image}}))
    assert "the disk of m1" in sentence


def test_two_machines_have_two_mac_addresses() -> None:
    first: dict[str, str] = {}
    for address in IPv4Network("10.1.0.0/16"):
        twin = first.setdefault(mac_address("dev", address), str(address))
        if twin != str(address):
            break
    machines = {
        "master": {"address": twin, "roles": "ai"},
        "m1": {"address": str(address)},
    }
    changes = {"networks machines": "10.1.0.0/16", "machines": machines}
    (sentence,) = refused(changed(changes))
    check(sentence)
    assert sentence.startswith(f"machines.m1.address {address} gives the same MAC address as mast")
    assert refused(changed({**changes, "name": "other"})) == []


@pytest.mark.parametrize("value", [None, [], "text", 5])
def test_what_is_no_mapping_is_refused(value: object) -> None:
    (sentence,) = refused(value)
    check(sentence)


def test_a_value_inside_itself_is_refused() -> None:
    value = changed({})
    value["machines"]["m1"]["labels"] = value
    for sentence in refused(value):
        check(sentence)
    assert refused(value)


def test_existing_machines_may_be_public_and_at_the_first_address() -> None:
    value = changed({})
    value["networks"]["machines"] = "8.8.8.0/24"
    value["machines"]["master"]["address"] = "8.8.8.1"
    value["machines"]["m1"]["address"] = "8.8.8.2"
    value["hypervisor"] = {"kind": "existing", "host_keys": {f"8.8.8.{n}": ED25519 for n in (1, 2)}}
    parse(value, name="dev")
    value["machines"]["m1"]["hypervisor"] = LIBVIRT
    with pytest.raises(SpecError, match=r"networks\.machines 8\.8\.8\.0/24 is not private"):
        parse(value, name="dev")
