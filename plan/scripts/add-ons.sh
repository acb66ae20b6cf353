# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings and the prelude stand before this text
# Applies the cluster's objects, deletes those that must not exist, and removes nodes that the spec no
# longer names.

as_admin "$admin_certificate" "$admin_key"

# of_record PATH...: add a request after which the record names exactly these objects
of_record() {
    local listed
    printf -v listed '%s\\n' "$@"
    of_apply "$recorded" '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"'"${recorded##*/}"'",
        "labels":{"app.kubernetes.io/managed-by":"hardway"}},"data":{"objects":"'"$listed"'"}}'
}

# remembered: set had to the paths of the objects that the record names
remembered() {
    of_request GET "$recorded" --write-out '\n%{http_code}'
    asked || return
    had=()
    case ${answer##*$'\n'} in
    200)
        answer=${answer#*'"data":{"objects":"'}
        answer=${answer%%\"*}
        read -ra had <<<"${answer//\\n/ }"
        ;;
    404) ;;
    *) echo "the API answers with ${answer##*$'\n'} when it is asked for $recorded" && return 1 ;;
    esac
}

# Objects with keys among their values: their files are opened and deleted before they are used.
filled_paths=() filled_files=()
while read -r path file; do
    [ -n "$path" ] || continue
    exec {descriptor}<"$file"
    rm "$file"
    filled_paths+=("$path") filled_files+=("/dev/fd/$descriptor")
done <<<"$filled"

# brought FILE...: apply the objects of these files, and delete the other objects of earlier runs. The
# record names an object before it is made and until it is gone.
brought() {
    # shellcheck disable=SC2034 # admin.sh reads objects
    local path paths objects had gone=() number
    objects_of "$@"
    paths+=("${filled_paths[@]}")
    remembered || return
    for path in "${had[@]}"; do
        [[ " ${paths[*]} " == *" $path "* ]] || gone+=("$path")
    done
    of_record "${paths[@]}" "${gone[@]}"
    of_objects
    for number in "${!filled_paths[@]}"; do
        of_apply "${filled_paths[number]}" "@${filled_files[number]}"
    done
    asked || return
    [ "${#gone[@]}" -eq 0 ] || {
        deleted "${gone[@]}" || return
        of_record "${paths[@]}"
        asked
    }
}

# furnished NAME...: make these namespaces of people, as far as they are missing. They are in no record,
# and stay as they are.
furnished() {
    local name code
    for name; do
        of_request POST /api/v1/namespaces --header 'Content-Type: application/json' \
            --data '{"metadata":{"name":"'"$name"'"}}' --output /dev/null --write-out "%{http_code} $name\n"
    done
    asked || return
    while read -r code name; do
        [[ $code == @(201|409) ]] || {
            echo "the API answers with $code when the namespace $name is to be made"
            return 1
        }
    done <<<"$answer"
}

# -- authorities that turn over --------------------------------------------------------------------

# certificates: the certificates in PEM on standard input, each on a line, sorted
certificates() {
    awk '/-----BEGIN/ { line = "" } { line = line $0 } /-----END/ { print line }' | sort -u
}

# pods_trust_ours: whether controller managers have given each namespace, and so each new pod, the
# certificates of exactly the authorities that are trusted
pods_trust_ours() {
    local wanted listed name data seen=''
    wanted=$(<"$authority")
    wanted='{"ca.crt":"'${wanted//$'\n'/\\n}'\n"}'
    listed=$(cluster get configmaps --all-namespaces --field-selector metadata.name=kube-root-ca.crt \
        --output 'jsonpath={range .items[*]}{.metadata.namespace} {.data}{"\n"}{end}' 2>&1) || {
        echo "the API server does not list what pods trust: ${listed##*$'\n'}"
        return 1
    }
    while read -r name data; do
        # kubectl also prints warnings, about other programs behind the API.
        [[ $data == '{'* ]] || continue
        seen=$name
        [ "$data" = "$wanted" ] || {
            echo "the namespace $name has other authorities in its ConfigMap kube-root-ca.crt"
            return 1
        }
    done <<<"$listed"
    [ -n "$seen" ] || {
        echo "no namespace has its ConfigMap kube-root-ca.crt yet"
        return 1
    }
}

# others_forgotten: whether programs behind the API trust the authorities that API servers trust, and no
# others. API servers add theirs to the object which says so and take none out of it: where it has more, it
# is deleted, and they make it anew.
others_forgotten() {
    local part path ours text object=extension-apiserver-authentication
    for part in "client-ca-file $authority" "requestheader-client-ca-file $front_proxy"; do
        read -r part path <<<"$part"
        ours=$(certificates <"$path") || ours=''
        [ -n "$ours" ] || {
            echo "$path has no certificate"
            return 1
        }
        text=$(cluster --namespace kube-system get configmap "$object" --output "jsonpath={.data.$part}" 2>&1) || {
            echo "the API server does not say what programs behind it trust: ${text##*$'\n'}"
            return 1
        }
        [ -z "$(comm -23 <(certificates <<<"$text") - <<<"$ours")" ] || {
            cluster --namespace kube-system delete configmap "$object" >/dev/null
            echo "programs behind the API server trusted more authorities than it does ($part)"
            return 1
        }
        [ -z "$(comm -13 <(certificates <<<"$text") - <<<"$ours")" ] || {
            echo "programs behind the API server do not trust all authorities that it does ($part)"
            return 1
        }
    done
}

await_api api "$api" "$authority" kube-apiserver.service
# Pods that start anew for it read the authorities at once, so these are there before.
[ -z "${trusted-}" ] || {
    await trust "pods trust these alone ($trusted)" kube-controller-manager.service pods_trust_ours
    await trust "the API trusts these alone ($trusted)" kube-apiserver.service others_forgotten
}
# shellcheck disable=SC2086 # several names
[ -z "$namespaces" ] || await add-ons "namespaces are there" kube-apiserver.service furnished $namespaces
# shellcheck disable=SC2086 # several files
await add-ons "the API server has the add-ons' objects" kube-apiserver.service brought $manifests

# -- nodes that the spec no longer names -----------------------------------------------------------

# unknown_nodes: set gone to the nodes that the spec does not name. The API lists the nodes as a table, since
# each is then a short row that begins with its name.
unknown_nodes() {
    of_request GET '/api/v1/nodes?includeObject=None' --fail-with-body \
        --header 'Accept: application/json;as=Table;g=meta.k8s.io;v=v1'
    asked >/dev/null || return
    gone=()
    while [[ $answer == *'"cells":["'* ]]; do
        answer=${answer#*'"cells":["'}
        [[ " $nodes " == *" ${answer%%\"*} "* ]] || gone+=("${answer%%\"*}")
    done
}

ready() {
    local output
    output=$(cluster get node "$1" --output \
        'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>&1) && [ "$output" = True ]
}

unknown_nodes || problem "the API server does not list the nodes: ${answer##*$'\n'}"
for node in "${gone[@]}"; do
    echo "the node $node is no longer in the spec: its pods move, then it goes"
    # The pods of a dead machine cannot be moved; they disappear with their node.
    wait_for drained "its pods have moved ($node)"
    until next_look && output=$(cluster drain "$node" --ignore-daemonsets --delete-emptydir-data --force \
        --timeout="${look}s" 2>&1) || ! ready "$node"; do
        announce
        still "$output" ||
            problem "the pods of the node $node do not move within $waited (${output##*$'\n'}; $since): see" \
                "kubectl get pods --all-namespaces --field-selector spec.nodeName=$node, then run this again"
        sleep 2
    done
    await node-gone "the node is gone ($node)" kube-apiserver.service \
        cluster delete node "$node" --ignore-not-found --timeout=30s
done
