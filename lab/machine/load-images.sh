#!/bin/sh
# Puts image archives into a container runtime's storage, as the machine's own containerd would:
#
#   load-images.sh ROOT SCRATCH CONTAINERD CTR PLATFORM
#
# SCRATCH/images has the lines "REFERENCE DIGEST ARCHIVE". ROOT is the file system that becomes the machine's. To be started in a mount and process namespace
# of its own, which ends the daemon with this.
set -eu

root=$1 scratch=$2 containerd=$3 ctr=$4 platform=$5
socket=$scratch/containerd.sock

mkdir -p "$root/var/lib/containerd"
chmod 0711 "$root/var/lib/containerd"
# Only what keeps images: nothing of the daemon touches this host's networks or containers.
cat >"$scratch/config.toml" <<END
version = 3
root = "$root/var/lib/containerd"
state = "$scratch/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.blockfile",
]
[grpc]
address = "$socket"
[ttrpc]
address = "$socket.ttrpc"
END

"$containerd" --config "$scratch/config.toml" --log-level warn >&2 &
daemon=$!

talk() {
    "$ctr" --address "$socket" --namespace k8s.io "$@"
}

tries=0
until talk version >"$scratch/said" 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 "$daemon" 2>/dev/null; then
        cat "$scratch/said" >&2
        exit 1
    fi
    sleep 0.1
done

while read -r reference digest archive; do
    talk images import --platform "$platform" "$archive"
    # What plan/scripts/runtime.sh looks for: all of this archive is there.
    talk images label "$reference" "hardway/archive=$digest"
done <"$scratch/images"

kill "$daemon"
wait "$daemon" || true
