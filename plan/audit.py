"""The audit log of the API server: who did what, but never the content of a Secret."""

from typing import Any

import yaml

from plan.model import File

POLICY_FILE = "/etc/kubernetes/audit-policy.yaml"
FOLDER = "/var/log/kubernetes"

FLAGS = {
    "audit-policy-file": POLICY_FILE,
    "audit-log-path": f"{FOLDER}/audit.log",
    # CIS 1.2.17 to 1.2.19: at least 30 days, 10 files, 100 MB. Compressed, they fit a small disk.
    "audit-log-maxage": "30",
    "audit-log-maxbackup": "10",
    "audit-log-maxsize": "100",
    "audit-log-compress": "true",
}

_CONFIDENTIAL = [
    {"group": "", "resources": ["secrets", "configmaps", "serviceaccounts/token"]},
    {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
]
"""Resources whose requests or responses contain keys, passwords or tokens."""

_WAYS_IN = [
    {
        "group": "",
        "resources": [
            *(f"pods/{way}" for way in ("attach", "ephemeralcontainers", "exec", "portforward")),
            *(f"{what}/proxy" for what in ("nodes", "pods", "services")),
        ],
    }
]
"""Ways into a container or past the API. Their use is logged for every user; some are reads."""

_POWERS = [
    {"group": "rbac.authorization.k8s.io"},
    {"group": "admissionregistration.k8s.io"},
    {
        "group": "certificates.k8s.io",
        "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"],
    },
]
"""Resources that decide on access and admission: the log has their changes in full, which is worth
the space."""

_COMPONENTS = {
    "users": (
        "system:apiserver",
        "system:kube-controller-manager",
        "system:kube-scheduler",
        "system:kube-proxy",
    ),
    "userGroups": ("system:nodes", "system:serviceaccounts:kube-system"),
}

# The first rule that matches a request decides.
POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "omitManagedFields": True,
    "rules": [
        {"level": "Metadata", "resources": _CONFIDENTIAL + _WAYS_IN},
        {
            "level": "None",
            "verbs": ["get"],
            "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi/*"],
        },
        # Requests for leases are most of all requests; events are a record themselves.
        *(
            {
                "level": "None",
                kind: list(names),
                "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
            }
            for kind, names in _COMPONENTS.items()
        ),
        {
            "level": "None",
            "resources": [
                {"group": group, "resources": ["events"]} for group in ("", "events.k8s.io")
            ],
        },
        # The cluster's components read much for their work; only their changes are logged.
        *(
            {"level": "None", kind: list(names), "verbs": ["get", "list", "watch"]}
            for kind, names in _COMPONENTS.items()
        ),
        {
            "level": "RequestResponse",
            "verbs": ["create", "update", "patch", "delete", "deletecollection"],
            "resources": _POWERS,
        },
        {"level": "Metadata"},
    ],
}
"""An audit policy (audit.k8s.io/v1)."""


def file() -> File:
    """The file with the policy."""
    return File(path=POLICY_FILE, content=yaml.safe_dump(POLICY, sort_keys=False))
