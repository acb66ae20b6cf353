"""The runtime step: host settings for containers, the container runtime and its images."""

from plan import containerd, docker, host, layout, roll, time_service
from plan.artifact import artifacts, reference
from plan.model import Artifact, Link, NotNewer, Step
from spec.artifacts import artifact_row, needed
from spec.cluster import Cluster

SOCKETS = {"containerd": containerd.SOCKET, "docker": docker.SOCKET}
"""Container runtime to the socket on which the kubelet reaches it."""
UNITS = {"containerd": containerd.UNIT, "docker": docker.UNIT}


def images(spec: Cluster) -> tuple[Artifact, ...]:
    """The image archives that every node has, since the add-ons' pods may run on any of them."""
    return artifacts(spec, _image_names(spec))


def image_references(spec: Cluster) -> tuple[str, ...]:
    """The references of these images; needs no digests."""
    return tuple(reference(spec, name) for name in _image_names(spec))


def _image_names(spec: Cluster) -> tuple[str, ...]:
    names = needed(spec.runtime, spec.addons.enabled)
    return tuple(name for name in names if artifact_row(name).image)


def packages(spec: Cluster) -> tuple[str, ...]:
    """The Debian packages that every node has."""
    return (
        *host.PACKAGES,
        *time_service.packages(spec),
        *(docker.PACKAGES if spec.runtime == "docker" else ()),
    )


def commands(spec: Cluster) -> tuple[Link, ...]:
    """The links of the runtime's programs."""
    runtime = docker if spec.runtime == "docker" else containerd
    return tuple(program.command for program in runtime.programs(spec))


def follows(spec: Cluster, program: Link) -> NotNewer:
    """The wait of a node's program for all API servers."""
    return NotNewer(
        program=program,
        version=f"v{spec.versions.kubernetes}",
        servers=tuple(layout.api_server_url(spec, name) for name in spec.control_planes),
        kubeconfig=layout.kubeconfig("kubelet"),
    )


def step(spec: Cluster, node: str) -> Step:
    """The host settings and the container runtime of a node."""
    links = commands(spec)
    rolling = roll.rolling(node, links)
    archives = images(spec)
    settings = {
        **host.settings(spec),
        "runtime": spec.runtime,
        "platform": f"linux/{spec.architecture}",
        # A line for each image: its reference, the digest of its archive, the archive's path.
        "images": "\n".join(
            f"{image.reference} {image.sha256} {image.store_path}" for image in archives
        ),
    }
    if spec.runtime == "docker":
        return Step(
            name="runtime",
            packages=packages(spec),
            artifacts=(*docker.programs(spec), *archives),
            files=(*host.files(spec), *docker.files(spec)),
            links=links,
            units=docker.units(spec),
            keeps=(f"link {host.RESOLVER}",),
            masked=(host.SWAP, *docker.MASKED),
            not_newer=follows(spec, links[0]),
            rolling=rolling,
            script="runtime",
            settings={**settings, "docker_socket": docker.ENGINE_SOCKET},
            outcome=f"cri-dockerd {spec.versions.cri_dockerd}, runs",
        )
    pinned = {
        "sandbox" if image.name == "pause" else image.name: str(image.reference)
        for image in archives
    }
    return Step(
        name="runtime",
        packages=packages(spec),
        artifacts=(*containerd.programs(spec), *archives),
        files=(*host.files(spec), *containerd.files(spec, pinned)),
        links=links,
        units=(containerd.unit(spec),),
        keeps=(f"link {host.RESOLVER}",),
        masked=(host.SWAP,),
        not_newer=follows(spec, links[0]),
        rolling=rolling,
        script="runtime",
        settings=settings,
        outcome=f"containerd {spec.versions.containerd}, {len(archives)} images",
    )
