# shellcheck shell=bash
# shellcheck disable=SC2154 # the limits and the prelude stand before this text
# Nodes roll: before a node's kubelet or container runtime becomes another one, the node waits for its turn
# and its pods move to others; once it is Ready again, it takes pods (plan/roll.py).
#
# An annotation of the Node object says how far the node is, and whether this script cordoned it. It is
# there from before the node takes a ticket until after it has given it back, so the ticket of a node
# without it is void. All requests are made as the node's own kubelet; other nodes, which a kubelet may not
# read, are read as the node's kube-proxy.

tickets=/api/v1/namespaces/kube-system/configmaps/hardway-rollout
cordoned_by_us=', cordoned for that'
# The node's name, where this machine had the programs before this step, and its kubeconfigs.
rolling='' of_kubelet='' of_proxy=''

# as KUBECONFIG METHOD PATH [BODY [TYPE]]: send a request; sets code to the status of the answer, and answer.
# Fails where there is none.
as() {
    local word value server='' authority='' certificate='' key='' body=()
    while read -r word value; do
        case $word in
        server:) server=$value ;;
        certificate-authority:) authority=$value ;;
        client-certificate:) certificate=$value ;;
        client-key:) key=$value ;;
        esac
    done <"$1"
    [ -z "${4-}" ] || body=(--header "Content-Type: application/${5-merge-patch+json}" --data-binary "$4")
    code=''
    # Asked by this user agent, the API writes its answer in one line.
    answer=$(curl --silent --show-error --user-agent hardway --max-time 60 --write-out '\n%{http_code}' \
        --cacert "$authority" --cert "$certificate" --key "$key" --request "$2" "${body[@]}" \
        "$server$3" 2>&1 </dev/null) || {
        answer=${answer//$'\n'/ }
        return 1
    }
    code=${answer##*$'\n'} answer=${answer%$'\n'*}
}

# why: print the sentences with which the API refuses something
why() {
    local sentence='"message":"(([^"\\]|\\.)*)"' sentences=$answer
    [[ ! $answer =~ $sentence ]] || sentences=${BASH_REMATCH[1]}
    [[ ! $answer =~ \"causes\":\[[^]]*$sentence ]] || sentences+=" ${BASH_REMATCH[1]}"
    echo "${sentences//\\/}"
}

# well_answered CODE...: whether the answer has one of these codes; else reason is why not
well_answered() {
    [[ " $* " != *" $code "* || -z $code ]] || return 0
    reason=$(why)
    return 1
}

# shown KUBECONFIG TEMPLATE WHAT...: what kubectl shows of objects
shown() {
    kubectl --kubeconfig "$1" --request-timeout 60s get "${@:3}" --output "go-template=$2" 2>&1 </dev/null
}

# stage_of NAME: set this variable to how far the node in the answer is; empty where it does not roll
stage_of() {
    printf -v "$1" %s ''
    [[ ! $answer =~ \"hardway/rolling\":\"([^\"]*)\" ]] || printf -v "$1" %s "${BASH_REMATCH[1]}"
}

# read_node: read this node's object
read_node() {
    as "$of_kubelet" GET "/api/v1/nodes/$rolling" || true
    well_answered 200 404 && stage_of stage
}

# is STAGE [FIELD]: say on the Node object how far the node is, and change a field of its spec
is() {
    local text=null
    [ -z "$1" ] || text=\"$1\"
    as "$of_kubelet" PATCH "/api/v1/nodes/$rolling" \
        "{\"metadata\":{\"annotations\":{\"hardway/rolling\":$text}}${2:+,\"spec\":{$2\}}}" || true
    well_answered 200 && stage=$1
}

# read_tickets: set version to that of the tickets, at_once to how many there are, and held to who has some
read_tickets() {
    local rest=''
    as "$of_kubelet" GET "$tickets" || true
    well_answered 200 || {
        [[ $code != @(403|404) ]] || reason='the add-ons have not made the ConfigMap hardway-rollout yet'
        return 1
    }
    version='' at_once=1 held=()
    [[ ! $answer =~ \"resourceVersion\":\"([^\"]*)\" ]] || version=${BASH_REMATCH[1]}
    [[ ! $answer =~ \"hardway/at-once\":\"([0-9]+)\" ]] || at_once=${BASH_REMATCH[1]}
    [[ ! $answer =~ \"data\":\{([^}]*)\} ]] || rest=${BASH_REMATCH[1]}
    while [[ $rest =~ ^,?\"([^\"]*)\":\"[^\"]*\"(.*)$ ]]; do
        held+=("${BASH_REMATCH[1]}") rest=${BASH_REMATCH[2]}
    done
}

# write_tickets DATA: change the tickets, unless somebody has changed them since they were read
write_tickets() {
    as "$of_kubelet" PATCH "$tickets" "{\"metadata\":{\"resourceVersion\":\"$version\"},\"data\":{$1}}" || true
    well_answered 200
}

# has_ticket: whether this node has a ticket, or has just taken one
has_ticket() {
    local holder stage_there void='' present=()
    [ -n "$stage" ] || is waits || return
    read_tickets || return
    [[ " ${held[*]} " != *" $rolling "* ]] || return 0
    for holder in "${held[@]}"; do
        as "$of_proxy" GET "/api/v1/nodes/$holder" || true
        well_answered 200 404 || return
        stage_of stage_there
        if [ "$code" = 404 ] || [ -z "$stage_there" ]; then
            void+="\"$holder\":null,"
        else
            [[ $answer == *'{"type":"Ready","status":"True"'* ]] || stage_there+=', not Ready'
            present+=("$holder $stage_there")
        fi
    done
    if [ "${#present[@]}" -lt "$at_once" ]; then
        write_tickets "$void\"$rolling\":\"$(date --utc +%FT%TZ)\""
        return
    fi
    printf -v reason '%s; ' "${present[@]}"
    reason=${reason%; }
    return 1
}

# given_back: let the node take pods again, where it was cordoned here, and another one have its turn
given_back() {
    [[ $stage != *"$cordoned_by_us" ]] || is "is done$cordoned_by_us" '"unschedulable":null' || return
    if read_tickets; then
        [[ " ${held[*]} " != *" $rolling "* ]] || write_tickets "\"$rolling\":null" || return
    elif [ "$code" != 404 ]; then
        return 1
    fi
    is ''
}

# refused SENTENCE: leave the node as it was, and fail
refused() {
    given_back || given_back || true
    problem "$@"
}

# -- pods ------------------------------------------------------------------------------------------

# stay: print why the pods stay where they are while the node is changed; 1 where they can move, 2 where
# nobody can say
stay() {
    local name cordoned ready taints taint rows own=''
    [ "$(systemctl is-active kubelet.service)" = active ] || {
        echo "its kubelet does not run"
        return 0
    }
    rows=$(shown "$of_proxy" '{{range .items}}{{.metadata.name}}|{{.spec.unschedulable}}|{{range .status.conditions}}{{if eq .type "Ready"}}{{.status}}{{end}}{{end}}|{{range .spec.taints}}{{if ne .effect "PreferNoSchedule"}}{{.key}}:{{.effect}} {{end}}{{end}}{{"\n"}}{{end}}' nodes) || {
        echo "${rows##*$'\n'}"
        return 2
    }
    while IFS='|' read -r name _ _ taints; do
        [ "$name" != "$rolling" ] || own=" $taints"
    done <<<"$rows"
    while IFS='|' read -r name cordoned ready taints; do
        [[ $name != "$rolling" && $cordoned != true && $ready = True ]] || continue
        # The pods tolerate the taints of their own node.
        for taint in $taints; do
            [[ $own == *" $taint "* ]] || continue 2
        done
        return 1
    done <<<"$rows"
    echo "no other node can take them"
}

# list_pods: set left to a line for each pod that must go, and lone to those that nobody would make again
list_pods() {
    local rows namespace name uid phase ends owner
    rows=$(shown "$of_kubelet" '{{range .items}}{{.metadata.namespace}} {{.metadata.name}} {{.metadata.uid}} {{.status.phase}} {{if .metadata.deletionTimestamp}}ends{{else}}runs{{end}} {{range .metadata.ownerReferences}}{{if .controller}}{{.kind}}{{end}}{{end}}{{"\n"}}{{end}}' \
        pods --all-namespaces --field-selector "spec.nodeName=$rolling") || {
        reason=${rows##*$'\n'}
        return 1
    }
    lone='' left=()
    while read -r namespace name uid phase ends owner; do
        # A pod of the kind Node is a file of the kubelet.
        [[ -n $namespace && $owner != @(DaemonSet|Node) && $phase != @(Succeeded|Failed) ]] || continue
        [ -n "$owner" ] || [ "$ends" = ends ] || lone+="${lone:+, }$namespace/$name"
        left+=("$namespace $name $uid $ends")
    done <<<"$rows"
}

# evicted NAMESPACE NAME UID: ask the API to end a pod, as budgets of disruption allow
evicted() {
    as "$of_kubelet" POST "/api/v1/namespaces/$1/pods/$2/eviction" "{
        \"apiVersion\":\"policy/v1\",\"kind\":\"Eviction\",
        \"metadata\":{\"namespace\":\"$1\",\"name\":\"$2\"},
        \"deleteOptions\":{\"preconditions\":{\"uid\":\"$3\"}}}" json || true
    well_answered 200 201 404
}

# moved: whether all pods have left; else end those that are left
moved() {
    local namespace name uid ends line names='' reasons_there=''
    list_pods || return
    [ -z "$lone" ] || refused "$rolling has pods that no controller makes again: $lone. Delete them, and run" \
        "the same again; nothing of $rolling was changed"
    [ "${#left[@]}" -gt 0 ] || return 0
    for line in "${left[@]}"; do
        read -r namespace name uid ends <<<"$line"
        reason=ends
        [ "$ends" = ends ] || evicted "$namespace" "$name" "$uid" || true
        names+="${names:+, }$namespace/$name"
        reasons_there+="${reasons_there:+; }$namespace/$name: $reason"
    done
    # Others that wait for their turn read who is left, and so see that something moves.
    [ "$stage" = "drains $names$ours" ] || is "drains $names$ours" || true
    reason=$reasons_there
    return 1
}

# pods_moved: move the pods of this node, which has its turn
pods_moved() {
    local ours='' lone='' left=() status stays
    while [ "$stage" = waits ]; do
        reason='' status=0
        stays=$(stay) || status=$?
        if [ "$status" = 0 ]; then
            ! is 'is changed with its pods' || echo "the pods of $rolling stay, since $stays"
        elif [ "$status" = 1 ] && read_node; then
            [[ $answer == *'"unschedulable":true'* ]] || ours=$cordoned_by_us
            ! is "drains$ours" '"unschedulable":true' || break
        else
            reason=${reason:-$stays}
        fi
        [ "$stage" != waits ] || still "$reason" || refused "the pods of $rolling cannot move ($reason)"
        sleep 1
    done
    [[ $stage == drains* ]] || return 0
    [[ $stage != *"$cordoned_by_us" ]] || ours=$cordoned_by_us
    wait_for drained "its pods have moved ($rolling)"
    until moved && is "is changed$ours"; do
        announce
        still "$reason" || refused "the pods of $rolling do not move within $waited ($reason; $since): let the" \
            "application have more replicas, and run the same again; nothing of $rolling was changed"
        sleep 1
    done
}

# rolls NODE KUBECONFIG KUBECONFIG PATH=TARGET...: where one of these programs is replaced, wait for this
# node's turn and move its pods. The first installation of a machine waits for nobody.
rolls() {
    local pair replaced='' reason='' stage='' version='' at_once=1 held=() code='' answer='' pause=1
    for pair in "${@:4}"; do
        [ -L "${pair%%=*}" ] || continue
        rolling=$1 of_kubelet=$2 of_proxy=$3
        [ "$(readlink "${pair%%=*}")" = "${pair#*=}" ] || replaced=yes
    done
    [ -n "$replaced" ] || return 0
    wait_for rolled "other nodes had their turn ($rolling)"
    until read_node && { [ "$code" = 404 ] || has_ticket; }; do
        announce
        still "$reason" || refused "the turn of $rolling does not come within $waited ($reason; $since): see to" \
            "what has not come back, and run the same again; nothing of $rolling was changed"
        sleep "$pause"
        ((pause == 8)) || pause=$((pause * 2))
    done
    [ -z "$stage" ] || pods_moved
}

# back_again: whether the kubelet that runs now says that the node is Ready
back_again() {
    local beat began
    read_node || {
        echo "$reason"
        return 1
    }
    [[ $answer =~ \{\"type\":\"Ready\",\"status\":\"True\",\"lastHeartbeatTime\":\"([^\"]*)\" ]] || {
        echo "the node is not Ready"
        return 1
    }
    beat=$(date --date "${BASH_REMATCH[1]}" +%s)
    began=$(date --date "$(systemctl show --property ExecMainStartTimestamp --value kubelet.service)" +%s)
    [ "$beat" -ge "$began" ] || {
        echo "the kubelet has not reported since its start"
        return 1
    }
}

# rolled: end this node's turn, where it had one
rolled() {
    local reason='' stage='' version='' at_once=1 held=() code='' answer=''
    read_node || true
    [ "$code" = 200 ] && [ -z "$stage" ] && return
    await back-again "the node is Ready again ($rolling)" kubelet.service back_again
    until read_node && given_back; do
        still "$reason" || problem "the turn of $rolling cannot be ended ($reason); run the same again"
        sleep 1
    done
}
