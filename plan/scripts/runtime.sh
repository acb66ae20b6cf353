# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings and the prelude stand before this text
# Prepares the host for containers, waits for the container runtime and gives it its images.

while read -r device _ _ _ priority; do
    [ "$device" = Filename ] || note swap "$device $priority"
done </proc/swaps
swapoff --all

# note_settings: remember the kernel settings that will change; the last are those that kube-proxy makes. The
# kernel sets whether it accepts redirects anew each time when forwarding is turned on or off, so that stands
# after it, and is written back after it.
note_settings() {
    local key value lines noted='' redirects=net.ipv4.conf.all.accept_redirects
    [ -d "$before" ] || return 0
    [ ! -f "$before/settings" ] || noted=$(<"$before/settings")
    for key in $(sed 's/ *=.*//' "$sysctls") net.ipv4.conf.all.route_localnet \
        net.netfilter.nf_conntrack_{max,tcp_timeout_established,tcp_timeout_close_wait}; do
        [[ $'\n'$noted != *$'\n'"$key = "* ]] || continue
        read -r value 2>/dev/null <"/proc/sys/${key//.//}" || continue
        lines=("$key = $value")
        [ "$key" != net.ipv4.ip_forward ] || lines+=("$redirects = $(<"/proc/sys/${redirects//.//}")")
        note settings "${lines[@]}"
    done
}

missing=()
for module in $modules; do
    [ -d "/sys/module/$module" ] || missing+=("$module")
done
[ "${#missing[@]}" -eq 0 ] || note modules "${missing[@]}"
[ "${#missing[@]}" -eq 0 ] || output=$(modprobe --all "${missing[@]}" 2>&1) ||
    problem "the kernel modules ${missing[*]} cannot all be loaded: $output"
note_settings
output=$(sysctl --quiet --load="$sysctls" 2>&1) ||
    problem "the kernel settings of $sysctls cannot be made: $output"

if systemctl --quiet is-active systemd-resolved; then
    link "$resolver" /run/systemd/resolve/resolv.conf
else
    link "$resolver" /etc/resolv.conf
fi

# A wrong clock makes certificates invalid, and then each component reports something else. A time service
# gets half a minute to set the clock; in a network without a time server the clock may be right without
# it.
clock=systemd-timedated
services=(systemd-timesyncd chrony chronyd ntpsec)
mapfile -t up < <(systemctl is-active "${services[@]}")
for number in "${!services[@]}"; do
    [ "${up[$number]-}" != active ] || clock=${services[$number]}
done
if [ "$clock" != systemd-timedated ]; then
    wait_for clock-set "the clock has been set"
    until [ "$(timedatectl show --property NTPSynchronized --value)" = yes ] || ! still; do
        sleep 0.5
    done
fi

# timely: whether the certificates are valid by this machine's clock. They were valid by the clock of the
# computer that made or kept them, so where they are not valid here, the two clocks differ.
timely() {
    local output path times start end differs now
    output=$(openssl verify -CAfile "$authority" "$certificate" 2>&1) && return
    echo "$output"
    printf -v now '%(%s)T' -1
    for path in "$authority" "$certificate"; do
        times=$(openssl x509 -noout -startdate -enddate -in "$path") || return
        start=${times%%$'\n'*} end=${times##*$'\n'}
        start=$(date +%s --date "${start#*=}") end=$(date +%s --date "${end#*=}")
        if [ "$now" -lt "$start" ]; then
            differs="$((start - now)) s or more behind"
        elif [ "$now" -gt "$end" ]; then
            differs="$((now - end)) s or more ahead of"
        else
            continue
        fi
        echo "the clock of this machine is $differs that of the computer that runs ./hardway up, by" \
            "which $path is valid: set the one that is wrong, and run the same again"
        return 1
    done
    return 1
}

await clock "the clock is right ($(date --utc), by this machine's certificates)" "$clock" timely

# -- containerd ------------------------------------------------------------------------------------

containerd_answers() {
    systemctl --quiet is-active containerd && ctr version
}

# A label of an image has the digest of its archive; it is set once the image is complete.
containerd_images() {
    local reference digest path present filters=()
    while read -r reference digest path; do
        filters+=("name==$reference,labels.\"hardway/archive\"==$digest")
    done <<<"$images"
    present=$(ctr --namespace k8s.io images list --quiet "${filters[@]}" 2>/dev/null) || present=
    while read -r reference digest path; do
        ! grep --quiet --line-regexp --fixed-strings "$reference" <<<"$present" || continue
        output=$({ ctr --namespace k8s.io images import --platform "$platform" "$path" &&
            ctr --namespace k8s.io images label "$reference" "hardway/archive=$digest"; } 2>&1) ||
            problem "containerd does not take the image $reference: ${output##*$'\n'}"
    done <<<"$images"
}

# -- Docker ----------------------------------------------------------------------------------------

docker_api() {
    curl --silent --show-error --fail-with-body --unix-socket "$docker_socket" "$@"
}

docker_image() {
    docker_api "http://docker/images/$1/json" 2>/dev/null | grep --only-matching '"Id": *"[^"]*"'
}

# Docker cannot label an image that exists, so a file records from which archive the image came.
docker_images() {
    local reference digest path record
    install -d -m 0700 "$state/images"
    while read -r reference digest path; do
        record=$state/images/${reference//\//_}
        [ "$(cat "$record" 2>/dev/null)" != "$digest $(docker_image "$reference")" ] || continue
        # Docker refuses an archive with an error in the text, but with the status of a success.
        if ! output=$(docker_api --request POST --header 'Content-Type: application/x-tar' \
            --upload-file "$path" "http://docker/images/load?quiet=1" 2>&1) ||
            grep --quiet '"error"' <<<"$output"; then
            problem "Docker does not take the image $reference: $output"
        fi
        output=$(docker_image "$reference") ||
            problem "Docker took the archive $path, but has no image $reference"
        echo "$digest $output" >"$record.new"
        mv "$record.new" "$record"
    done <<<"$images"
}

# keepers [=IMAGE]: print the IDs of the containers that keep images, or this image; fails if there are none
keepers() {
    docker_api --get --data-urlencode "filters={\"label\":[\"hardway.image${1-}\"]}" \
        'http://docker/containers/json?all=true' | grep --only-matching '"Id": *"[^"]*"' |
        cut --delimiter='"' --fields=4
}

# Where the disk is full, the kubelet removes images, and nothing would bring these back. cri-dockerd pins
# no image but pause. It has Docker remove images without force, and Docker then refuses to remove an
# image that a container uses. So each image has a container that is never started. The kubelet does not
# see that container, since it lacks the labels of a pod's container.
docker_keeps() {
    local reference image kept wanted=' '
    while read -r reference _; do
        image=$(docker_image "$reference")
        image=${image#*:} image=${image//[ \"]/}
        keepers "=$image" >/dev/null || output=$(docker_keeper "$reference" "$image" 2>&1) ||
            problem "Docker makes no container that keeps the image $reference: $output"
        wanted+=$(keepers "=$image")' '
    done <<<"$images"
    # The containers of images that another archive or version has replaced.
    for kept in $(keepers); do
        [[ $wanted == *" $kept "* ]] ||
            output=$(docker_api --request DELETE "http://docker/containers/$kept" 2>&1) ||
            problem "Docker does not remove the container $kept, which keeps an image of before: $output"
    done
}

# docker_keeper REFERENCE IMAGE: make the container that keeps an image
docker_keeper() {
    docker_api --header 'Content-Type: application/json' --data "{\"Image\": \"$1\",
        \"Entrypoint\": [\"never started\"], \"Labels\": {\"hardway.image\": \"$2\"},
        \"HostConfig\": {\"NetworkMode\": \"none\"}}" \
        "http://docker/containers/create?name=hardway-keeps-${2:7:12}"
}

# A Docker that ran before it had this project's configuration has left a bridge behind, and a rule that
# drops all forwarded packets.
after_other_docker() {
    if ip link show docker0 >/dev/null 2>&1; then
        iptables --wait --policy FORWARD ACCEPT
        ip link delete docker0
    fi
}

case $runtime in
containerd)
    await runtime "containerd answers" containerd.service containerd_answers
    containerd_images
    ;;
docker)
    await runtime "Docker answers" docker.service docker_api http://docker/_ping
    after_other_docker
    docker_images
    docker_keeps
    await runtime "cri-dockerd runs" cri-dockerd.service systemctl is-active cri-dockerd.service
    ;;
esac
