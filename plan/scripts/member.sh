# shellcheck shell=bash
# shellcheck disable=SC2154 # pace.sh stands before this text
# Decides whether a member of etcd may start, and brings etcd's list of members to that of the plan. A
# member's data contain all writes that it has confirmed. A member that lost them and starts empty under
# its old identity votes as if it had confirmed nothing.

# The peer URL of each member of the plan to its name, and of each member that etcd lists to its ID, name,
# client URL, and whether it is a learner.
declare -A member_peers=() their_id=() their_name=() their_client=() their_learner=()

# What a person does where all members that a new one could join are lost.
member_begin="write a higher etcd.generation, with which the members of the plan begin anew and empty, and \
then bring a backup back with ./hardway restore"

# member UNIT NAME PEER READY DATA MARKER ONCE REMOVED ETCDCTL AUTHORITY CERTIFICATE KEY OWN MEMBERS
# FOUNDERS OTHER...: allow a member that has its data or that begins the cluster. Have any other member join
# the others with an empty data directory, once they have removed what it was, which they do only while all
# of them answer. Refuse it otherwise, before anything is made or started.
member() {
    local unit=$1 name=$2 data=$5 output lost pair was
    member_unit=$1 member_self=$2 member_peer=$3 member_ready=$4 member_marker=$6 member_once=$7 \
        member_removed=$8
    member_consistency=s # accept the list of any member, also of one without a quorum
    member_trust=("${@:9:4}")
    member_own=${13}
    for pair in ${14}; do
        member_peers[${pair#*=}]=${pair%%=*}
    done
    member_others=("${@:16}")
    member_asked=("${member_others[@]}")
    member_did=''
    if has_log "$data"; then
        [ ! -e "$member_once" ] || rm -f "$member_once"
        if is_ready "$member_ready" || [ "${#member_others[@]}" -eq 0 ] || ! removed "$data"; then
            [ ! -e "$member_removed" ] || rm -f "$member_removed"
            return 0
        fi
        echo "etcd's other members have removed $name (its data is of the member $own_id, which their" \
            "list no longer has): its data is deleted, and it joins them anew"
        output=$(systemctl stop "$unit" 2>&1) ||
            problem "$unit cannot be stopped, so the removed member's data was not deleted: $output"
        answered_once
        rm -rf "$data/member"
        member_consistency=l # a member that lags behind may still list the removed one
    fi
    lost="etcd's data is gone from $name ($data/member/wal has no log), and this member has \
answered before: with nothing in it, it would take part as if it had never confirmed a write, and such \
writes can be lost while every member says that it is healthy; bring the directory back"
    if ! listed; then
        if [ -e "$member_marker" ]; then
            [ "${#member_others[@]}" -eq 0 ] || problem \
                "$lost, or run this again when the other members answer, who then make it anew;" \
                "where no quorum is left, ./hardway restore brings etcd back"
            problem "$lost, or restore a backup (./hardway restore), or, where the \
cluster may begin with nothing, remove $member_marker and run this again"
        fi
        if [[ " ${15} " == *" $name "* ]]; then
            unlocked
            await first-members "the first members are up (every member's machine; take one that is lost \
for good out of the stack's file, and bring a backup back with ./hardway restore)" "$unit" first_members
            alone
            ! has_log "$data" || return 0 # another run has begun meanwhile
            listed || {
                founds "${15}"
                return 0
            }
        else
            [ "${#member_others[@]}" -gt 0 ] || problem "$name is etcd's only member and has no data, and the \
cluster was begun by others: $member_begin"
            await member-heard "a member of etcd answers ($name joins them; where all of them are lost, \
$member_begin)" "$unit" listed
            listed || problem "etcd's members do not say any more who they are; run this again"
        fi
    fi
    if [ -n "$member_id" ] && [ -n "$member_name" ]; then
        # A member that is listed and was never reached is one of the first, whose cluster is known
        # by its list: the plan may have other members or another name for this one by now.
        [ -n "$member_reached" ] || [ -e "$member_marker" ] || {
            starts_once "--initial-cluster=$member_all"
            return 0
        }
        ! has_log "$data" || return 0 # it came up for the first time while the others were asked
        # The others know it, but no file here does, as on a new disk: no later run may begin anew here.
        answered_once
        wait_for others-ready "the other members are ready (they make $name anew)"
        until output=$(well_but "$member_peer"); do
            still "$output" || problem "$lost, or bring back the others first, who then make it anew:" \
                "$output; where no quorum is left, ./hardway restore brings etcd back"
            sleep 2
            listed || true
        done
        systemctl stop "$unit" 2>/dev/null || true # it may run without its data
        was=$member_id
        await member-gone "its old member is removed ($name: $was)" "$unit" let_go
        echo "etcd's data was gone from $name: the other members, who all answer, have removed the member" \
            "$was that it was"
        member_did="made anew in place of the member $was, whose data was gone"
        member_consistency=l
    fi
    echo "$name joins etcd's other members anew"
    systemctl stop "$unit" 2>/dev/null || true # the unit may not exist yet
    answered_once
    exec {member_says}>&1
    await member-added "etcd's members take $name in" "$unit" added
    exec {member_says}>&-
    listed || problem "etcd's members do not say any more who they are; run this again"
    rm -rf "$data/member" # what is left of a member that was removed
    rm -f "$member_removed"
    starts_once "--initial-cluster-state=existing --initial-cluster=$member_all"
    member_did=${member_did:-joined the others}
}

# first_members: whether a member answers or is here by now, or the machines of all members are up, so that this
# member may begin the cluster. A machine that is off may have the only data, also of a member that is no founder:
# without it, those with new disks would begin with nothing.
first_members() {
    local peer output
    ! has_log "${data:?}" && ! listed || return 0
    for peer in "${!member_peers[@]}"; do
        [ "$peer" != "$member_peer" ] || continue
        # A machine that is up refuses a connection to a port at which nothing listens.
        output=$(not_connected "$peer")
        [[ $output != @(|'Connection refused') ]] || continue
        echo "the machine of ${member_peers[$peer]} does not answer at $peer ($output)"
        return 1
    done
}

# founds FOUNDERS: have the member begin the cluster together with these members
founds() {
    local peer all=''
    for peer in "${!member_peers[@]}"; do
        [[ " $1 " != *" ${member_peers[$peer]} "* ]] || all+=${all:+,}${member_peers[$peer]}=$peer
    done
    starts_once "--initial-cluster=$all"
}

# starts_once FLAGS: allow the unit's first start, without data, with these flags. They are in a file of /run
# and not in the unit: once a member has data, etcd no longer reads them, and the list alone would change the
# unit of all others, and so restart them, with each member that comes or goes.
starts_once() {
    install -d -m 0700 "${member_once%/*}"
    file 0600 root:root "$member_once" "ONCE=\"$1\""$'\n'
}

# -- the list of members ---------------------------------------------------------------------------

# members_first: where the member that is about to restart is ready, wait until all members of the plan are in,
# and then have the others leave. Other steps get the machine's lock meanwhile.
members_first() {
    local leaving=()
    [[ $(systemctl is-active "$member_unit") == @(active|reloading) ]] || return 0
    within_three is_ready "$member_ready" || return 0
    as_seen_here
    if listed; then
        strangers leaving
        [ "${#leaving[@]}" -gt 0 ] || ! all_in >/dev/null || return 0
    fi
    unlocked
    exec {member_says}>&1
    await members-in "those that join etcd are in" "$member_unit" all_in
    await member-gone "those leaving etcd are out" "$member_unit" all_out
    exec {member_says}>&-
    alone
}

# only_planned: have the members leave that are not in the plan, before any machine goes. Where a member of the
# plan is not in yet, nothing is done: its own step does so once it is in.
only_planned() {
    local leaving=()
    as_seen_here
    if listed; then
        strangers leaving
        [ "${#leaving[@]}" -gt 0 ] || return 0
    fi
    exec {member_says}>&1
    await member-gone "those leaving etcd are out" "$member_unit" last_sees_all_out
    exec {member_says}>&-
}

# as_seen_here: from now on ask this machine's own member for the list that a quorum has
as_seen_here() {
    member_asked=("$member_own") member_consistency=l
}

# last_sees_all_out: all_out, where all members of the plan are in
last_sees_all_out() {
    local missing=()
    listed || return
    absent missing
    [ "${#missing[@]}" -gt 0 ] || dismiss
}

# strangers NAME: set an array to the peer URLs of the members that are not in the plan
strangers() {
    local -n list=$1
    local peer
    list=()
    for peer in "${!their_id[@]}"; do
        [ -n "${member_peers[$peer]-}" ] || list+=("$peer")
    done
}

# absent NAME: set an array to the names of the members of the plan that have no vote yet
absent() {
    local -n names=$1
    local peer
    names=()
    for peer in "${!member_peers[@]}"; do
        [[ -n ${their_name[$peer]-} && ${their_learner[$peer]} = false ]] ||
            names+=("${member_peers[$peer]}")
    done
}

# all_in: whether all members of the plan are in and have a vote
all_in() {
    local missing=()
    listed || return
    absent missing
    [ "${#missing[@]}" -eq 0 ] && return
    without_silent || return
    echo "not in yet: ${missing[*]}"
    return 1
}

# all_out: whether no members are left that are not in the plan
all_out() {
    listed && dismiss
}

# dismiss: remove the listed members that are not in the plan, one at a time and each only while all voters answer
dismiss() {
    local peer leaving=()
    without_silent || return
    strangers leaving
    for peer in "${leaving[@]}"; do
        well_but && leads_elsewhere "$peer" && dropped "$peer" "it has left the plan" || return
    done
}

# without_silent: remove members that are not in the plan and do not answer. etcd takes nobody in while they
# are in its list. With another member ill, nobody is removed.
without_silent() {
    local peer leaving=() gone=()
    strangers leaving
    for peer in "${leaving[@]}"; do
        ! silent "$peer" || gone+=("$peer")
    done
    [ "${#gone[@]}" -gt 0 ] || return 0
    well_but "${gone[@]}" || return
    for peer in "${gone[@]}"; do
        dropped "$peer" "it has left the plan and does not answer" || return
    done
}

# well_but PEER...: whether all members with a vote are ready, except these; it says who is not
well_but() {
    local peer ill='' status
    for peer in "${!their_id[@]}"; do
        [[ ${their_learner[$peer]} = false && " $* " != *" $peer "* ]] || continue
        status=0
        reached "$peer" || status=$?
        [ "$status" -ne 0 ] || continue
        ill+="${ill:+, }${their_name[$peer]:-${their_id[$peer]}} at $peer"
        # curl has 22 where the answer is a failure.
        [ "$status" -eq 22 ] && ill+=' is not ready' || ill+=' does not answer'
    done
    [ -n "$ill" ] || return 0
    echo "etcd removes no member while another one is ill ($ill)"
    return 1
}

# reached PEER: whether this member answers, with a vote and a quorum behind it
reached() {
    [ -n "${their_client[$1]}" ] && curl --silent --fail --max-time "$((10 * pace / 100))" \
        --output /dev/null --cacert "${member_trust[1]}" --cert "${member_trust[2]}" \
        --key "${member_trust[3]}" "${their_client[$1]}/readyz"
}

# silent PEER: whether this member does not answer, asked three times
silent() {
    ! within_three reached "$1"
}

# within_three COMMAND...: whether one of three attempts succeeds, with two seconds between them
within_three() {
    "$@" || { sleep 2 && "$@"; } || { sleep 2 && "$@"; }
}

# leads_elsewhere PEER: make this machine's member the leader where the member leads that is to leave, or
# nothing could be written until the others have elected one
leads_elsewhere() {
    local field number own='' leader=''
    while IFS=' :' read -r field number; do
        case $field in
        '"MemberID"') printf -v own %x "$number" ;;
        '"Leader"') printf -v leader %x "$number" ;;
        esac
    done < <(others_ctl "$member_own" endpoint status --write-out=fields)
    [ "$leader" = "${their_id[$1]}" ] || return 0
    others_ctl "${their_client[$1]}" move-leader "$own"
}

# dropped PEER WHY: have the members remove this one; another machine's step may have done so
dropped() {
    local output
    output=$(others_ctl "$(joined , "${member_asked[@]}")" member remove "${their_id[$1]}" 2>&1) ||
        [[ $output == *'member not found'* ]] || {
        echo "$output"
        return 1
    }
    echo "etcd's member ${their_name[$1]:-${their_id[$1]}} is removed: $2" >&"${member_says:-2}"
    unset "their_id[$1]"
}

# let_go: have the others remove what this machine's member was, while all of them answer
let_go() {
    listed || return
    [ -n "$member_id" ] || return 0
    [ -n "$member_name" ] || return 0 # another run has added it anew
    well_but "$member_peer" || return
    others_ctl "$(joined , "${member_others[@]}")" member remove "$member_id"
}

# removal ID: print the instruction with which a person has the member with this ID made anew
removal() {
    echo "on another member's machine run 'etcdctl --endpoints=$(joined , "${member_others[@]}")" \
        "--cacert=${member_trust[1]} --cert=${member_trust[2]} --key=${member_trust[3]} member remove" \
        "$1', then this again, which makes the member anew from the others"
}

# is_ready URL: whether the member is ready, which takes a quorum, so that no removed member is
is_ready() {
    curl --silent --fail --max-time 20 --output /dev/null "$1"
}

# removed DATA: whether the others have removed this member from the cluster. A removal is final, since no
# ID is given twice. Only a quorum of the same cluster can tell: a member that is cut off may have a list
# from before this member joined. Where the lists may mean something else, the step fails.
removed() {
    local endpoint output answered='' doubt=''
    own_ids "$1" || own_id=''
    for endpoint in "${member_others[@]}"; do
        listens "$endpoint" || continue
        output=$(others_ctl "$endpoint" member list --consistency=l --hex --write-out=fields 2>/dev/null) ||
            continue
        answered=yes output=$'\n'$output$'\n'
        if [ -z "$own_id" ]; then
            [[ $output != *'"PeerURL" : "'"$member_peer"'"'* ]] || return 1
            doubt="etcd's other members do not list $member_self, and $1/member/wal does not say of \
which member it is, so nothing of it was deleted; if this member was removed, move $1/member away and \
run this again, which makes the member anew from the others"
        elif [[ $output != *$'\n"ClusterID" : '"$own_cluster"$'\n'* ]]; then
            doubt="etcd's data on $member_self is of another cluster ($own_cluster) than the other \
members, as where a restore left this machine out; nothing of it was deleted; if it is given up, move \
$1/member away and run this again"
        elif [[ $output == *$'\n"ID" : '"$own_id"$'\n'* ]]; then
            return 1
        elif [[ $output == *'"PeerURL" : "'"$member_peer"'"'* ]]; then
            doubt="etcd's other members list $member_peer under another ID than the data of \
$member_self has ($own_id), as where it was removed and added by hand; nothing was deleted; find its ID \
with etcdctl member list, and $(removal "<ID>")"
        fi
    done
    if [ -z "$answered" ]; then
        [ ! -e "$member_removed" ] || problem "etcd has reported that $member_self was removed from its \
cluster, and no other member answers with a quorum behind it; nothing was deleted; run this again when \
one answers"
        return 1
    fi
    [ -z "$doubt" ] || problem "$doubt"
}

# own_ids DATA: set own_id and own_cluster, which stand at the beginning of each file of etcd's log (wal
# and walpb of its server): the second record has the type 1, and its data are the two numbers.
own_ids() {
    local logs bytes position=0 value
    logs=("$1"/member/wal/*.wal)
    mapfile -t bytes < <(od --address-radix=n --format=u1 --width=1 --output-duplicates \
        --read-bytes=128 "${logs[-1]}" | tr --delete ' ')
    # A record begins with its length in 8 bytes; the last of them also counts the padding.
    [ "${#bytes[@]}" -eq 128 ] || return
    position=$((8 + bytes[0] + (bytes[7] & 7) + 8))
    field 1 && [ "$value" = 1 ] && field 2 && field 3 || return
    field 1 || return
    printf -v own_id %x "$value"
    field 2 || return
    printf -v own_cluster %x "$value"
}

# field NUMBER: set value to the number in a protobuf field at position in bytes, or to the length of the
# field's data, and move position behind that number
field() {
    local bits byte=${bytes[position++]-}
    value=0
    [ "$((byte >> 3))" -eq "$1" ] || return
    for ((bits = 0; bits < 70; bits += 7)); do
        byte=${bytes[position++]-}
        [ -n "$byte" ] || return
        value=$((value | (byte & 127) << bits))
        [ "$byte" -ge 128 ] || return 0
    done
    return 1
}

# listens URL: whether a server accepts connections there. Without this check, first members, which start
# at the same time, would wait for etcdctl to give up the others.
listens() {
    [ -z "$(not_connected "$1")" ]
}

# not_connected URL: print why no connection to this address can be made; nothing where it can
not_connected() {
    local address=${1#*//} output
    output=$(timeout 5 bash -c "true >/dev/tcp/${address%:*}/${address##*:}" 2>&1) && return
    output=${output%%$'\n'*}
    output=${output##*: }
    echo "${output:-no answer}"
}

# others_ctl ENDPOINTS ARGUMENT...: run etcdctl for these members
others_ctl() {
    trusted "$1" "${member_trust[0]}" "${@:2}"
}

# trusted ENDPOINTS COMMAND...: run a command in which etcdctl asks these members
trusted() {
    ETCDCTL_ENDPOINTS=$1 ETCDCTL_CACERT=${member_trust[1]} ETCDCTL_CERT=${member_trust[2]} \
        ETCDCTL_KEY=${member_trust[3]} ETCDCTL_DIAL_TIMEOUT=$((5 * pace / 100))s \
        ETCDCTL_COMMAND_TIMEOUT=$((10 * pace / 100))s "${@:2}"
}

# has_log DATA: whether etcd's log is in its data directory
has_log() {
    compgen -G "$1/member/wal/*.wal" >/dev/null
}

# joined SEPARATOR TEXT...: print the texts with the separator between them
joined() {
    local IFS=$1
    echo "${*:2}"
}

# answered_once: note that the member has answered, so that it never starts without its data
answered_once() {
    file 0600 root:root "$member_marker" $'the member of etcd on this machine has answered\n'
}

# listed: set the variables about all members and about this one, from the list of a member that answers
listed() {
    local list id name peer clients learner endpoint up=()
    member_id='' member_name='' member_reached='' member_all=''
    their_id=() their_name=() their_client=() their_learner=()
    for endpoint in "${member_asked[@]}"; do
        ! listens "$endpoint" || up+=("$endpoint")
    done
    [ "${#up[@]}" -gt 0 ] || return
    list=$(others_ctl "$(joined , "${up[@]}")" member list \
        "--consistency=$member_consistency" 2>/dev/null) || return
    while IFS=, read -r id _ name peer clients learner; do
        # A member that was added and never started has no name.
        name=${name# } peer=${peer# } clients=${clients# }
        their_id[$peer]=$id their_name[$peer]=$name their_client[$peer]=$clients
        their_learner[$peer]=${learner# }
        if [ "$peer" = "$member_peer" ]; then
            member_id=$id member_name=$name member_reached=$clients
            name=$member_self
        fi
        member_all+=${member_all:+,}${name:-$id}=$peer
    done <<<"$list"
}

# added: add this member to the cluster as a learner, if the others do not list it. etcd has one learner at a
# time, so members join one after the other. etcd must not have to refuse a member: the refused request is in
# its log, and a member of etcd 3.7.1 that starts again from there connects to the refused one, until a start
# finds a snapshot after that. So members ask under a lock, each only where no learner is in the list.
added() {
    local peers output busy status=0
    busy='another member is joining, and etcd takes in only a single new member at a time'
    listed || return
    [ -z "$member_id" ] || return 0
    without_silent || return
    [[ " ${their_learner[*]} " != *' true '* ]] || {
        echo "$busy"
        return 1
    }
    peers=$(joined , "${member_others[@]}")
    # Without a quorum, etcdctl would ask for the lock for ever.
    # shellcheck disable=SC2016 # the inner shell expands it
    output=$(trusted "$peers" timeout --foreground --kill-after=10 "$((120 * pace / 100))" \
        "${member_trust[0]}" lock --ttl "$((15 * pace / 100))" /hardway/joins -- \
        bash -c 'list=$("$0" member list) || exit
            ! grep --quiet ", true$" <<<"$list" || { echo "$3" && exit 1; }
            exec "$0" member add "$1" --learner "--peer-urls=$2"' \
        "${member_trust[0]}" "$member_self" "$member_peer" "$busy" 2>&1) || status=$?
    case $status:$output in
    0:*) ;;
    *'space exceeded'* | *'corrupt cluster'*) # an alarm: etcd gives no lock then, and takes a member in
        others_ctl "$peers" member add "$member_self" --learner "--peer-urls=$member_peer"
        ;;
    *"$busy"*)
        echo "$busy"
        return 1
        ;;
    124:* | 137:*)
        echo "etcd does not say whose turn it is to join: is a majority of its members well?"
        return 1
        ;;
    *)
        echo "$output"
        return 1
        ;;
    esac
}

# promoted: promote the member from learner to voter, once it has caught up. Only the leader can be asked,
# which may be a member that is to leave: a request that another member forwards to it lacks the user (etcd
# 3.7.1).
promoted() {
    local endpoint
    listed || return
    for endpoint in "${their_client[@]}"; do
        [[ -n $endpoint && $endpoint != "$member_reached" ]] || continue
        ! others_ctl "$endpoint" member promote "$member_id" || return 0
    done
    return 1
}
