"""The settings of the add-on ``notebooks``."""

from typing import Annotated

from pydantic import Field

from spec.part import Expected, Part, Text, Whole

HUB_PORT, SERVER_PORT = 8000, 8888
"""The ports of the first control plane at which people reach the hub and their own server."""


class Notebooks(Part):
    """JupyterHub: people log in, and each of them gets a Jupyter server, a pod of its own."""

    memory: Annotated[Whole, Field(ge=256, le=65536)] = 512
    """MiB of a person's server with all kernels: what takes more is ended."""
    cpus: Annotated[Whole, Field(ge=1, le=64)] = 1
    """Processors of a person's server at most."""
    servers: Annotated[Whole, Field(ge=1, le=1000)] = 10
    """Servers that run at once at most: a person who wants another one is asked to wait."""
    idle: Annotated[Whole, Field(ge=5, le=10080)] = 60
    """Minutes after which a server ends that nobody uses: no page of it is open, and no kernel
    computes. Logging in again starts it anew."""
    home: Annotated[Whole, Field(ge=1, le=1000)] = 2
    """GiB of a person's home. With ``storage`` its claim asks for them; of that add-on's volumes
    nothing enforces it, and a claim that exists does not change. Without ``storage`` a server whose
    home takes more is ended, and its home with it. A server with more than 1 GiB in ``/tmp`` is
    ended, too."""
    password: Annotated[Whole, Field(ge=1), Expected("a whole number, 1 or more")] = 1
    """The number of the password for everybody. Another number makes another password, logs
    everybody out, ends all servers and takes away all tokens that people made; homes stay, with
    what anybody put there. The former number brings the former password back."""
    certificate_names: tuple[Text, ...] = ()
    """DNS names, such as `notebooks.example.org`, for which its certificate is, of the cluster's
    authority. It is for no address: who had its key could pretend to be the API there."""
