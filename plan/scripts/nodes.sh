# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings and the prelude stand before this text
# Gives nodes the labels and taints of the spec, and removes those that only an earlier spec gave. Labels
# and taints from other sources stay.

as_admin "$admin_certificate" "$admin_key"

# Node to its lines, "label KEY=VALUE" and "taint KEY=VALUE:EFFECT".
declare -A wanted=() earlier=()

# by_node ARRAY <<TEXT: fill ARRAY with the lines after each "node NAME"
by_node() {
    local -n lines=$1
    local word rest node=''
    while read -r word rest; do
        case $word in
        node) node=$rest ;;
        label | taint) lines["$node"]+="$word $rest"$'\n' ;;
        esac
    done
}

# named LINE: set name, which is unique on a node: a label's key, or a taint's key and effect
named() {
    name=${1%%=*}
    [[ $1 != taint* ]] || name+=:${1##*:}
}

# string_of JSON FIELD: set value to that of a string field; the values that are read here have no quotes
string_of() {
    value=''
    [[ ! $1 =~ \"$2\":\"([^\"]*)\" ]] || value=${BASH_REMATCH[1]}
}

# patch NODE VERSION LABELS [TAINT...]: print the change of a node as a merge patch; nothing if all is
# right. The API's labels are one line of JSON, and so is each taint, which may have more fields.
patch() {
    local node=$1 version=$2 had=$3 line name key value effect taint labels='' kept='' touched=''
    local -A own=() gone=()
    shift 3
    while read -r line; do
        named "$line"
        [ -z "$line" ] || gone[$name]=yes
    done <<<"${earlier[$node]-}"
    while read -r line; do
        [ -n "$line" ] || continue
        named "$line"
        unset "gone[$name]"
        [ -z "$giving" ] || own[$name]=$line
    done <<<"${wanted[$node]-}"
    for taint; do
        string_of "$taint" key && key=$value
        string_of "$taint" effect && effect=$value
        string_of "$taint" value
        name="taint $key:$effect"
        if [ "${own[$name]-}" = "taint $key=$value:$effect" ]; then
            unset "own[$name]"
        elif [ -n "${own[$name]-}${gone[$name]-}" ]; then
            touched=yes
            continue
        fi
        kept+=,$taint
    done
    for name in "${!own[@]}"; do
        line=${own[$name]#* }
        key=${line%%=*} value=${line#*=}
        if [[ $name == taint* ]]; then
            kept+=",{\"key\":\"$key\",\"value\":\"${value%:*}\",\"effect\":\"${value##*:}\"}"
            touched=yes
        elif [[ $had != *"\"$key\":\"$value\""* ]]; then
            labels+=",\"$key\":\"$value\""
        fi
    done
    for name in "${!gone[@]}"; do
        key=${name#label }
        [[ $name != label* || $had != *"\"$key\":"* ]] || labels+=",\"$key\":null"
    done
    [ -n "$labels$touched" ] || return 0
    # The API refuses the patch if somebody has changed the node meanwhile; then all of this is repeated.
    printf '{"metadata":{"resourceVersion":"%s"%s}%s}' "$version" \
        "${labels:+,\"labels\":{${labels#,}\}}" "${touched:+,\"spec\":{\"taints\":[${kept#,}]\}}"
}

# nodes_brought [yes]: remove from nodes what only an earlier spec gave and, with yes, give what this one gives
nodes_brought() {
    local giving=${1-} all word rest node version labels change taints=()
    local -A there=()
    all=$(cluster get nodes --output 'jsonpath={range .items[*]}node {.metadata.name} {.metadata.resourceVersion}{"\n"}labels {.metadata.labels}{"\n"}{range .spec.taints[*]}taint {@}{"\n"}{end}end{"\n"}{end}') || return
    while read -r word rest; do
        case $word in
        node) node=${rest% *} version=${rest#* } labels='' taints=() there[${rest% *}]=yes ;;
        labels) labels=$rest ;;
        taint) taints+=("$rest") ;;
        end)
            change=$(patch "$node" "$version" "$labels" "${taints[@]}")
            [ -z "$change" ] || of_request PATCH "/api/v1/nodes/$node" --fail-with-body \
                --header 'Content-Type: application/merge-patch+json' --data-binary "$change"
            ;;
        esac
    done <<<"$all"
    [ "${#requests[@]}" -eq 0 ] || asked || return
    for node in "${!wanted[@]}"; do
        [ -z "$giving" ] || [ -n "${there[$node]-}" ] || {
            echo "the node $node is not registered: ./hardway up --refresh has its kubelet do so"
            return 1
        }
    done
}

# all_given: bring nodes and the record up to date, in such an order that the record names at each moment
# all labels and taints from a spec that are still on a node
all_given() {
    local was='' status=0
    exists "$recorded" || status=$?
    case $status in
    0)
        # shellcheck disable=SC2016 # kubectl's own variables
        was=$(cluster --namespace kube-system get configmap hardway-nodes --output \
            'go-template={{range $node, $lines := .data}}node {{$node}}{{"\n"}}{{$lines}}{{end}}') || return
        ;;
    1) ;;
    *) return 1 ;;
    esac
    by_node earlier <<<"$was"
    [ -z "$was" ] || [ "$was" = "${given%$'\n'}" ] || nodes_brought || return
    applied "$record" && nodes_brought yes
}

by_node wanted <<<"$given"
await labels "the nodes have the labels and taints of the spec" kube-apiserver.service all_given
