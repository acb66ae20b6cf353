#!/usr/bin/env bash
# slirp4netns 1.2.0 (Debian 12's 1.2.0-1): with --enable-sandbox, started by root where mounts are shared, as
# systemd makes them, it unmounts a part of the computer's own mounts: those below another mount, such as
# /dev/pts and /dev/shm, or all names of network namespaces where /run/netns is a mount. It says nothing, goes
# on to serve, and what it unmounted does not come back.
#
# Its sandbox is a new mount namespace. Only its root is made private, so what is mounted below shares its
# fate with the namespace that it came from: when slirp4netns unmounts the old root, that goes there as well.
# Podman and rootlesskit do not meet this: they start it in a user namespace, from which nothing propagates.
#
# Here all happens in a mount namespace of its own, with a mount below another one. Seen:
#   with the sandbox: 1 mount before, 0 after
#   without: 1 mount before, 1 after
#   with the sandbox, in a mount namespace that is a slave: 1 mount before, 1 after
#
# Until it is mended: unshare --mount --propagation slave slirp4netns --enable-sandbox ...
#
# Needs root, /dev/net/tun, iproute2, and the lists of apt-get.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get download --quiet slirp4netns=1.2.0-1 libslirp0=4.7.0-1) >/dev/null 2>&1
for package in "$folder"/*.deb; do
    dpkg-deb --extract "$package" "$folder/root"
done
libraries=$(dirname "$(find "$folder/root" -name 'libslirp.so.0')")
mkdir "$folder/outer"

cat >"$folder/inside.sh" <<'SCRIPT'
set -eu
mount --make-rshared /
mount -t tmpfs outer "$1/outer"
mkdir "$1/outer/inner"
mount -t tmpfs inner "$1/outer/inner"
shift
inner() { grep --count ' inner rw' /proc/self/mountinfo || true; }
printf '%s mount before, ' "$(inner)"
unshare --net sleep 100 &
sleeper=$!
until [ "$(readlink /proc/$sleeper/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
"$@" --configure "$sleeper" tap0 >/dev/null 2>&1 &
slirp=$!
until nsenter --target "$sleeper" --net ip address show tap0 2>/dev/null | grep -q 'inet '; do sleep 0.1; done
# It serves before it makes its sandbox.
for _ in $(seq 30); do
    [ "$(inner)" = 1 ] || break
    sleep 0.1
done
echo "$(inner) after"
kill "$slirp" "$sleeper"
SCRIPT

contained() {
    timeout 60 unshare --mount --propagation private bash "$folder/inside.sh" "$folder" "$@"
}
slirp=(env "LD_LIBRARY_PATH=$libraries" "$folder/root/usr/bin/slirp4netns")
sandboxed=$(contained "${slirp[@]}" --enable-sandbox)
bare=$(contained "${slirp[@]}")
slave=$(contained unshare --mount --propagation slave "${slirp[@]}" --enable-sandbox)
echo "with the sandbox: $sandboxed"
echo "without: $bare"
echo "with the sandbox, in a mount namespace that is a slave: $slave"
if [ "$bare" != '1 mount before, 1 after' ] || [ "$slave" != "$bare" ]; then
    echo 'the way of asking is wrong' >&2
    exit 1
fi
if [ "$sandboxed" != '1 mount before, 0 after' ]; then
    echo 'this has changed' >&2
    exit 1
fi
