"""The hub's configuration, which JupyterHub itself runs as it starts.

It stands in a ConfigMap beside ``settings.json``, which says what differs between clusters.
"""

# mypy: ignore-errors

import hashlib
import hmac
import json
import sys
from base64 import urlsafe_b64decode
from pathlib import Path

from kubernetes_asyncio.client import V1OwnerReference

FOLDER, SECRETS = Path("/etc/jupyterhub"), Path("/run/jupyterhub")
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

settings = json.loads((FOLDER / "settings.json").read_text())
password = (SECRETS / "password").read_text().strip()

c = get_config()  # noqa: F821

# -- who comes in ----------------------------------------------------------------------------------

# Whoever has the password chooses a name. Nobody is an administrator.
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = password
c.Authenticator.allow_all = True
# Another password ends all sessions with the hub; `start.py` ends what else a password gave.
c.JupyterHub.cookie_secret = hmac.digest(password.encode(), b"cookies", hashlib.sha256)

# -- the hub and its proxy -------------------------------------------------------------------------

c.JupyterHub.data_files_path = "/opt/hub/share/jupyterhub"
c.JupyterHub.db_url = "sqlite:////srv/jupyterhub/jupyterhub.sqlite"
c.JupyterHub.hub_bind_url = "http://0.0.0.0:8081"
c.JupyterHub.hub_connect_url = settings["hub"]
# The proxy and people's servers outlive the hub.
c.JupyterHub.cleanup_proxy = False
c.JupyterHub.cleanup_servers = False
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = settings["proxy"]
c.ConfigurableHTTPProxy.auth_token = (SECRETS / "token").read_text().strip()
c.JupyterHub.active_server_limit = settings["servers"]

# -- idle servers ----------------------------------------------------------------------------------

# The proxy and servers say who is busy this often, or a busy server would look idle.
c.JupyterHub.last_activity_interval = settings["look"]
c.JupyterHub.services = [
    {
        "name": "idle-culler",
        "command": [
            *(sys.executable, "-m", "jupyterhub_idle_culler"),
            *(f"--timeout={settings['idle']}", f"--cull-every={settings['look']}"),
        ],
    }
]
c.JupyterHub.load_roles = [
    {
        "name": "idle-culler",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["idle-culler"],
    }
]

# -- people's servers ------------------------------------------------------------------------------

c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
# An emulated machine takes minutes, and a home's folder is made first.
c.Spawner.start_timeout = 900
c.Spawner.http_timeout = 600
c.Spawner.default_url = "/lab"
c.KubeSpawner.namespace = settings["namespace"]
c.KubeSpawner.image = settings["image"]
# Its own labels have `app: jupyterhub` among them, by which Services and policies know the hub.
c.KubeSpawner.common_labels = {
    "app.kubernetes.io/managed-by": "kubespawner",
    "app.kubernetes.io/name": "jupyterhub",
}
c.KubeSpawner.image_pull_policy = "IfNotPresent"
c.KubeSpawner.cmd = ["jupyterhub-singleuser"]
c.KubeSpawner.port = 8888
c.KubeSpawner.node_selector = {"kubernetes.io/os": "linux"}
c.KubeSpawner.cpu_guarantee, c.KubeSpawner.cpu_limit = 0.05, settings["cpus"]
c.KubeSpawner.mem_guarantee, c.KubeSpawner.mem_limit = "128M", f"{settings['memory']}M"
c.KubeSpawner.automount_service_account_token = False
# Else the Services' variables look like JupyterHub's own.
c.KubeSpawner.extra_pod_config = {"enableServiceLinks": False}
c.KubeSpawner.uid = c.KubeSpawner.gid = c.KubeSpawner.fs_gid = 1000
c.KubeSpawner.pod_security_context = {
    "fsGroup": 1000,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
c.KubeSpawner.container_security_context = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsGroup": 1000,
    "runAsUser": 1000,
}
HOME = "/home/jovyan"
c.KubeSpawner.working_dir = c.Spawner.notebook_dir = HOME
c.KubeSpawner.environment = {
    "HOME": HOME,
    "SHELL": "/bin/bash",
    **dict.fromkeys(("LOGNAME", "USER"), "jovyan"),
    "JUPYTERHUB_ACTIVITY_INTERVAL": str(settings["look"]),
}
c.KubeSpawner.volume_mounts = [
    {"name": "home", "mountPath": HOME},
    {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108
]
# In GiB, as the home is. The kubelet ends a server that takes more of its node's disk.
SCRATCH = 1
volumes = {"scratch": {"emptyDir": {"sizeLimit": f"{SCRATCH}Gi"}}}
if settings["claims"]:
    c.KubeSpawner.storage_pvc_ensure = True
    c.KubeSpawner.storage_capacity = f"{settings['home']}Gi"
    c.KubeSpawner.storage_access_modes = ["ReadWriteOnce"]
    volumes["home"] = {"persistentVolumeClaim": {"claimName": "{pvc_name}"}}
    taken = SCRATCH
else:
    volumes["home"] = {"emptyDir": {"sizeLimit": f"{settings['home']}Gi"}}
    taken = SCRATCH + settings["home"]
c.KubeSpawner.volumes = [{"name": name, **volume} for name, volume in volumes.items()]
# Both at once, and logs. Without a guarantee it would be the limit, which few nodes have free.
c.KubeSpawner.extra_resource_limits = {"ephemeral-storage": f"{1024 * taken + 128}Mi"}
c.KubeSpawner.extra_resource_guarantees = {"ephemeral-storage": "128Mi"}
# A claim has what a person made: no hub deletes it.
c.KubeSpawner.delete_pvc = False


def _claims() -> dict:
    """What the API server signed of the hub itself: its token's middle part."""
    middle = TOKEN.read_text().split(".")[1]
    return json.loads(urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))["kubernetes.io"]


def _owned(_spawner, pod):
    """A server ends with the hub's account, where the add-on is switched off.

    Without claims the hub forgets all servers with its pod, so they end with that: else nobody
    would ever end them.
    """
    kind = ("serviceaccount", "ServiceAccount") if settings["claims"] else ("pod", "Pod")
    owner = _claims()[kind[0]]
    pod.metadata.owner_references = [
        V1OwnerReference(api_version="v1", kind=kind[1], name=owner["name"], uid=owner["uid"])
    ]
    return pod


c.KubeSpawner.modify_pod_hook = _owned
