#!/bin/bash
# prepare-for-kubeadm.sh PLATFORM: what kubeadm's documentation asks of a machine before `kubeadm init`
# or `kubeadm join`, once the files are there and containerd is started. The standard input has the lines
# `route SUBNET ADDRESS`, for the pods of another node, and `image ARCHIVE`.

platform=$1

swapoff --all
xargs modprobe --all </etc/modules-load.d/hardway.conf
sysctl --quiet --load=/etc/sysctl.d/90-hardway.conf
systemctl restart systemd-resolved
systemctl enable kubelet

tries=0
until ctr version >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ]; then
        ctr version
        exit 1
    fi
    sleep 1
done

while read -r word first second; do
    case $word in
    route) ip route replace "$first" via "$second" ;;
    image) ctr --namespace k8s.io images import --platform "$platform" "$first" </dev/null ;;
    esac
done
sync
