"""The kubeconfigs of a machine's components.

They name the files of keys and certificates and contain no secrets themselves: programs read the
named files again by themselves, but never keys inside a kubeconfig (``plan/reload.py``).
"""

from certs.kubeconfig import kubeconfig_of_files
from plan import layout
from plan.model import File
from spec.cluster import Cluster


def file(spec: Cluster, node: str, component: str) -> File:
    """The kubeconfig of a component of ``layout.KUBECONFIGS``."""
    name = layout.KUBECONFIGS[component]
    content = kubeconfig_of_files(
        cluster_name=spec.name,
        server=layout.local_api_url(spec, node),
        user=name,
        files=named(component),
    )
    return File(path=layout.kubeconfig(component), content=content)


def named(component: str) -> dict[str, str]:
    """Setting to path, for the files that a component's kubeconfig names."""
    name = layout.KUBECONFIGS[component]
    return {
        "certificate-authority": layout.AUTHORITY,
        "client-certificate": layout.certificate(name),
        "client-key": layout.private_key(name),
    }
