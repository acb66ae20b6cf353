"""A real containerd on this computer, without its place in /run and /var."""

import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli_w

from tests.engine.stack import PATIENCE, eventually
from tests.plan.stored import stored


@contextmanager
def real_containerd(folder: Path, configuration: str) -> Iterator[Path]:
    """The socket of a containerd with this configuration, which keeps all in ``folder``."""
    folder.mkdir(parents=True)
    config = tomllib.loads(configuration)
    config["root"], config["state"] = str(folder / "root"), str(folder / "state")
    config["plugins"]["io.containerd.server.v1.grpc"]["address"] = str(folder / "socket")
    # On a file system that is an overlay itself, overlays are not possible.
    config["plugins"]["io.containerd.cri.v1.images"]["snapshotter"] = "native"
    config["plugins"]["io.containerd.transfer.v1.local"] = {
        "unpack_config": [{"platform": "linux", "snapshotter": "native"}]
    }
    config["disabled_plugins"] = ["io.containerd.nri.v1.nri"]
    (folder / "config.toml").write_text(tomli_w.dumps(config))
    # A /run of its own, where it makes a directory of a fixed name.
    alone = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [*alone, stored("containerd"), "--config", folder / "config.toml"],
            stdout=log,
            stderr=log,
        )
    try:
        eventually("it listens", (folder / "socket").exists, reason=(folder / "log").read_text)
        yield folder / "socket"
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE)
