"""Finds mistakes that show only in several parts of a spec together.

A check is a small function of a description, and of the name of a machine for checks of each
machine. If a field that a check needs did not parse, the check finds nothing and the other checks
continue.
"""

from collections.abc import Iterator

from spec.checks import (
    addresses,
    backups,
    bridges,
    connections,
    ingress,
    load_balancer,
    names,
    networks,
    nodes,
    parts,
    places,
    proxies,
    registries,
    roles,
    sizes,
    urls,
)
from spec.description import Description
from spec.part import Unparsed
from spec.refusal import Refusal

OF_THE_WHOLE = (
    names.cluster_is_a_dns_label,
    names.machines_differ_in_more_than_case,
    names.domain_is_a_dns_name,
    parts.version_is_in_the_catalogue,
    parts.etcd_is_of_a_version_that_fits,
    networks.ranges_do_not_overlap,
    networks.ranges_are_routed,
    networks.machines_network_is_private,
    networks.pods_network_is_private,
    networks.services_network_is_private,
    networks.machines_network_has_room,
    networks.node_has_addresses_for_its_pods,
    networks.pods_network_has_room_for_the_nodes,
    networks.services_network_has_room,
    networks.flannel_port_is_free,
    networks.routes_lead_to_neighbours,
    networks.way_out_is_of_a_lab,
    bridges.bridge_leads_to_machines,
    bridges.bridge_is_of_a_single_network,
    bridges.gateway_is_on_the_bridge,
    bridges.bridge_can_be_looked_at,
    networks.packets_have_a_usable_size,
    addresses.each_is_used_once,
    addresses.each_has_a_mac_address_of_its_own,
    addresses.virtual_ip_fits,
    addresses.balancer_is_somebody_elses,
    addresses.name_servers_are_outside,
    addresses.machines_name_servers_are_outside,
    addresses.time_servers_are_outside,
    load_balancer.load_balancer_has_addresses,
    load_balancer.load_balancer_addresses_are_free,
    load_balancer.load_balancer_ports_are_free,
    ingress.ingress_address_is_given_away,
    ingress.names_can_be_in_a_certificate,
    ingress.ingress_objects_have_names,
    ingress.ingress_finds_its_default_backend,
    ingress.ssh_leaves_add_ons_their_ports,
    roles.there_is_a_control_plane,
    roles.there_is_a_place_for_pods,
    roles.etcd_has_a_majority,
    roles.several_control_planes_have_an_endpoint,
    urls.base_image_can_be_fetched,
    urls.mirror_can_be_asked,
    urls.mirror_is_no_machine_itself,
    places.base_image_is_pinned,
    places.base_image_is_used,
    places.libvirt_boots_as_it_says,
    places.libvirt_image_is_no_machines_disk,
    places.virtualbox_has_the_processor,
    places.virtualbox_ranges_are_apart,
    places.ssh_port_is_free,
    places.host_keys_are_public_keys,
    places.host_keys_belong_to_machines,
    places.machines_reach_each_other,
    places.libvirt_has_the_same_settings,
    connections.libvirt_is_reached_by_its_uri,
    parts.digests_are_of_artifacts,
    parts.logs_find_their_way,
    parts.notebooks_find_the_hub,
    proxies.proxy_can_be_asked,
    proxies.exceptions_are_hosts,
    registries.registries_are_named_as_in_references,
    registries.mirrors_can_be_asked,
    registries.authorities_are_certificates,
    registries.users_are_of_a_registry,
    registries.docker_has_mirrors_of_docker_hub_alone,
    backups.backups_have_a_usable_period,
    backups.backups_are_copied_outside,
    backups.backups_are_uploaded_outside,
    backups.buckets_can_be_named,
    backups.bucket_authority_is_a_certificate,
)

OF_EACH_MACHINE = (
    names.machine_is_a_dns_label,
    addresses.machine_fits,
    roles.machine_has_a_role,
    sizes.memory_is_enough,
    sizes.disk_is_enough,
    sizes.sizes_are_of_a_machine_that_is_made,
    nodes.labels_are_taken,
    nodes.taints_are_taken,
    nodes.only_nodes_carry_labels_and_taints,
    places.machine_libvirt_boots_as_it_says,
    connections.machine_libvirt_is_reached_by_its_uri,
    places.machine_ssh_port_is_free,
    places.virtualbox_sizes_are_possible,
    places.existing_machine_has_a_host_key,
)


def refusals(spec: Description) -> Iterator[Refusal]:
    """The mistakes that all checks find in a description."""
    for check in OF_THE_WHOLE:
        yield from _while_parsed(check(spec))
    for name in _machines(spec):
        for check_machine in OF_EACH_MACHINE:
            yield from _while_parsed(check_machine(spec, name))


def _while_parsed(refusals: Iterator[Refusal]) -> Iterator[Refusal]:
    try:
        yield from refusals
    except Unparsed:
        return  # another message refuses the field that did not parse


def _machines(spec: Description) -> tuple[str, ...]:
    try:
        return tuple(spec.machines)
    except Unparsed:
        return ()
