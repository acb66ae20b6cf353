"""The whole stack, as ``__main__.py`` declares it."""

import json
import os
from pathlib import Path

import pulumi
from pulumi.runtime.config import get_config

from components.cluster import ClusterComponent
from components.remote import provider
from components.status import follow
from spec import bucket_key, passwords
from spec.cluster import SpecError, parse
from spec.offer import STATUS_VARIABLE, offered, with_offer


def declare() -> None:
    """Declare the stack from its configuration.

    Raises RunError with plain sentences about mistakes in the configuration.
    """
    if path := os.environ.get(STATUS_VARIABLE):
        follow(Path(path))
    try:
        written = parse(pulumi.Config("hardway").get_object("cluster"), name=pulumi.get_stack())
        # Pulumi's own way to read them gives values that are not known yet, and so no names.
        of_registries = get_config(passwords.FULL_KEY) or "{}"
        passwords.demand_passwords(written, json.loads(of_registries))
        of_bucket = get_config(bucket_key.FULL_KEY) or "{}"
        bucket_key.demand_bucket_key(written, json.loads(of_bucket))
        spec = with_offer(written, offered())
        options = pulumi.ResourceOptions(providers=[provider()])
        cluster = ClusterComponent(spec, options, passwords=of_registries, bucket_key=of_bucket)
    except SpecError as error:
        raise pulumi.RunError(str(error)) from error
    pulumi.export("endpoint", spec.api_url)
    pulumi.export(
        "addresses", {name: str(machine.address) for name, machine in spec.machines.items()}
    )
    pulumi.export("versions", spec.versions.model_dump(mode="json"))
    if spec.authorities:
        # The numbers of the last update that ended, which ``./hardway up`` goes on from.
        pulumi.export("authorities", spec.authorities.model_dump(mode="json"))
    if spec.ssh_keys:
        pulumi.export("ssh_keys", list(spec.ssh_keys))  # likewise
    pulumi.export("nodes", cluster.nodes)
    pulumi.export("ssh_private_key", pulumi.Output.secret(cluster.ssh_key))
    pulumi.export("kubeconfig", pulumi.Output.secret(cluster.kubeconfig))
