# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # prelude.sh shares its variables with this text
# leave.sh STEP HARD NAME=SECONDS...: removes all that a step brought which has left the machine's plan,
# for example with a role; the numbers are the limits of waits. The engine runs this when it deletes the
# step. It also deletes the steps of a machine that it makes anew around its disk. Then this does nothing:
# the step is still in the list of steps that the first step keeps on the machine.

cd "${BASH_SOURCE[0]%/*}" || exit
# shellcheck disable=SC1091 # files of this folder
. ./pace.sh && . ./prelude.sh && . ./before.sh && . ./absence.sh
hard=$2
for limit in "${@:3}"; do
    limits[${limit%%=*}]=${limit#*=}
done
if [ ! -f "$state/plan" ]; then
    echo "nothing is taken away, since $state/plan is missing, which names the steps of this machine"
    exit
fi
steps=$(<"$state/plan")
[[ " $steps " != *" $1 "* ]] || exit 0
alone

# voteless: whether etcd's member on this machine has no quorum behind it, as one that was removed
voteless() {
    ! curl --silent --fail --max-time 20 --output /dev/null http://127.0.0.1:2381/readyz || {
        echo "etcd's member on this machine still has its vote; run the same again, which removes it first"
        return 1
    }
}

# The other members' steps have removed it, and then it ends. Its data must not go before.
[ "$1" != etcd ] || await member-gone "etcd's other members have removed this one" etcd.service voteless
only "$1"
rm -f "$state/steps/$1"
