"""Keys that are made once and then live in Pulumi's state."""

import pulumi

from certs.ssh import SshKeyPair, new_key_pair


class TrackedSshKey:
    """An SSH key pair kept by a ``Stash``.

    Every run of the program makes a candidate; the engine takes it when the resource is created and
    ignores it ever after (``ignore_changes``), so a second preview is empty.
    """

    def __init__(self, name: str, opts: pulumi.ResourceOptions) -> None:
        candidate: SshKeyPair = new_key_pair()
        stash = pulumi.Stash(
            name,
            input=pulumi.Output.secret({"private": candidate.private, "public": candidate.public}),
            opts=pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(ignore_changes=["input"])
            ),
        )
        self.private: pulumi.Output[str] = stash.output.apply(lambda kept: str(kept["private"]))
        self.public: pulumi.Output[str] = pulumi.Output.unsecret(
            stash.output.apply(lambda kept: str(kept["public"]))
        )
