# shellcheck shell=bash
# The cluster's admin, for one step.

# as_admin KUBECONFIG: the credential is on the machine only while this runs: its file is gone before
# it is used, and what is open ends with the process.
as_admin() {
    exec 9<"$1"
    rm "$1"
}

cluster() {
    kubectl --kubeconfig /dev/fd/9 "$@"
}

# applied OPTION...: the API has the objects of these files. Not validated: the API server would have
# to describe all that it knows first, a minute of an emulated one; and these objects are ours, with
# fields that kubectl knows.
applied() {
    cluster apply --server-side --validate=ignore --force-conflicts --field-manager hardway "$@"
}
