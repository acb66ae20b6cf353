"""The commands that the README shows: each is run by a test, as it stands there."""

import re

from lab.paths import PROJECT

ON_A_CLUSTER = (
    "./hardway status",
    "./hardway validate --wait 300",
    "./hardway drift",
    "./hardway etcd-space",
    "./hardway images list",
    "./hardway addons",
    "./hardway pulumi preview --refresh --diff",
    "./hardway kubectl get nodes",
    "./hardway kubeconfig --merge",
    "./hardway kubeconfig --remove",
    "./hardway ssh master -- uptime",
    "./hardway diagnose",
    "./hardway preview --live",
    "./hardway pulumi preview --diff",
    'eval "$(./hardway env)"',
)
"""Run by ``tests/machine/test_cluster.py`` on the default stack."""

BACKUPS = (
    "./hardway backup now",
    "./hardway backup list",
    "./hardway backup fetch",
    "./hardway backup key",
)
"""Run by ``tests/machine/test_single.py`` on a stack that makes backups."""

RESTORE = ("./hardway restore FILE", "./hardway restore")
"""Run by the same tests with a backup's name in the place of ``FILE``."""

RECOVERY = ("./hardway backup secrets FILE", "./hardway recover FILE")
"""Run by ``tests/machine/test_recover.py``."""

IMAGES = ("./hardway images load shop.tar", "./hardway images remove shop:1")
"""Run by the same tests where there is such an archive."""

SERVICES = ("./hardway expose web", "./hardway open web")
"""Run by the same tests where there is such a Service; here there is no screen."""

IN_THE_STORY = ("make up", "./hardway up", "./hardway up --refresh", "./hardway down", "make down")
"""What makes and ends that cluster."""

ALONE = (
    "./hardway --help",
    "./hardway doctor",
    "./hardway artifacts list",
    "./hardway --install-completion",
    "./hardway test tests/lab -k cache",
    "make preview",
    "./hardway preview --base HEAD~1",
    "make picture",
    "make golden",
    "make docs",
)
"""Run by ``tests/ops/test_readme.py`` without a cluster."""

MINUTES = ("make bench",)
"""Commands that need no cluster as well, and take minutes."""

GIGABYTES = (
    "./hardway artifacts fetch && ./hardway artifacts export parts.tar",
    './hardway artifacts import parts.tar --digest "$DIGEST"',
)
"""Run by ``tests/machine/test_cluster.py``: they write all artifacts twice."""

THE_TESTS_THEMSELVES = (
    *("make test", "make test-all", "make test-topologies", "make test-kills N=50"),
    *("./hardway bench --machines", "./hardway bench --existing"),
    "./hardway bench --living",
    "./hardway bench --peer kubeadm",
    "./hardway test --load 2 --times 10",
)
"""What runs all of this, and what takes as long."""

ADD_ONS = (
    *("./hardway restart minion1", "./hardway open monitoring", "./hardway open logs"),
    *("./hardway open dashboard", "./hardway open notebooks"),
)
"""Run by ``tests/machine/test_addons.py``, ``test_watched.py`` and ``test_notebooks.py``."""

SECOND_STACK = ("./hardway up --stack lab2",)
"""Every machine test brings up a stack of its own with ``up`` and that option's variable."""

EXISTING = ("./hardway hosts scan", "./hardway hosts check")
"""Run by ``tests/ops/test_hosts.py`` on a stack whose machines exist already."""

ON_VIRTUALBOX = ("./hardway up --stack virtualbox",)
"""Run by ``tests/hypervisors/test_virtualbox.py`` on a host that lacks VirtualBox's modules."""

PASSWORDS = (
    "./hardway pulumi config set --secret --path 'hardway:passwords[\"registry.example.org\"]'",
    "./hardway pulumi config set --secret --path hardway:bucket.access_key_id",
)
"""Run by ``tests/engine/test_configuration.py``, by Pulumi's own program."""

WITH_MORE_WORDS = ("./hardway ssh", "./hardway ssh master", "./hardway kubectl")
"""Named in a sentence; commands that begin so are among those above."""


def commands() -> tuple[str, ...]:
    """Each once: in code blocks and in the text, without the comments behind them."""
    commands: list[str] = []
    for line in (PROJECT / "README.md").read_text().splitlines():
        if line.startswith("    ") and re.match(r"(make|\./hardway|eval)\b", line.strip()):
            commands.append(line.partition("  #")[0].strip())
        commands += re.findall(r"`((?:make|\./hardway|eval)\b[^`]*)`", line)
    return tuple(dict.fromkeys(commands))
