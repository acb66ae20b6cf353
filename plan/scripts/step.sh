# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # prelude.sh shares its variables with this text
# Runs a step of a machine's plan: reads the step's data and carries out its records in order.
# plan/records.py explains what a record is. The command line of the step has checked the digest of this
# file and of the others that the step uses (plan/library.py).

# split RECORD: set fields to the fields of a record
split() {
    local rest=$1$'\t'
    fields=()
    while [ -n "$rest" ]; do
        fields+=("${rest%%$'\t'*}")
        rest=${rest#*$'\t'}
    done
}

# run NAME: run a script of this folder; it may have variables with the names of those of this file
run() {
    local line lines content fields things
    # shellcheck disable=SC1090 # one of these files
    . "$scripts/$1.sh"
}

# thing: add to things what the record in fields brings to the machine and what outlasts a reboot
thing() {
    local thing brought
    case ${fields[0]} in
    file | secret | directory) brought=("${fields[0]} ${fields[3]}") ;;
    encrypts) brought=("secret ${fields[3]}") ;;
    signs) brought=("secret ${fields[3]}" "secret ${fields[6]}") ;;
    link | unit) brought=("${fields[0]} ${fields[1]}") ;;
    masked) brought=("${fields[@]:1}") && brought=("${brought[@]/#/masked }") ;;
    keeps) brought=("${fields[@]:1}") ;;
    *) return 0 ;;
    esac
    for thing in "${brought[@]}"; do
        [[ $thing == *' /run/'* ]] || things+=("$thing")
    done
}

# keep_data NAME: save the data for people to read. Two runs may do so at the same time, since neither has
# the lock yet.
keep_data() {
    mkdir -p "$state/steps"
    printf '%s\n' "$data" >"$state/steps/.$1.$$"
    mv "$state/steps/.$1.$$" "$state/steps/$1"
}

export LC_ALL=C
umask 077
data=$(cat)
exec </dev/null
# The data are read to their end first: where they were cut off on their way, nothing is done.
if [[ $data != $'step\t'*$'\nend' ]]; then
    echo 'failed: the data of the step did not come whole; run the same again' >&2
    exit 1
fi
# Make each record one line: the lines of its content, which begin with two spaces, are joined to it.
set -f
IFS=$'\n'
# shellcheck disable=SC2206 # it is to be split
lines=(${data//$'\n  '/$'\001'})
IFS=$' \t\n'
set +f

split "${lines[0]}"
scripts=$PWD
for line in "${fields[@]:2}"; do
    # shellcheck disable=SC1090 # one of these files
    [[ $'\n'$data == *$'\nrun\t'"$line"$'\n'* ]] || . "$scripts/$line.sh"
done
step=${fields[1]}
[[ $data == *$'\n'@(secret|encrypts|signs)$'\t'* ]] || keep_data "$step"
outcome='' things=()
for line in "${lines[@]:1}"; do
    split "${line%%$'\001'*}"
    thing
done
for line in "${lines[@]:1}"; do
    split "${line%%$'\001'*}"
    content=''
    [[ $line != *$'\001'* ]] || content=${line#*$'\001'}$'\n'
    content=${content//$'\001'/$'\n'}
    case ${fields[0]} in
    limits)
        hard=${fields[1]}
        for limit in "${fields[@]:2}"; do
            limits[${limit%%=*}]=${limit#*=}
        done
        ;;
    setting) printf -v "${fields[1]}" %s "${fields[2]-${content%$'\n'}}" ;;
    file | secret | encrypts | signs) "${fields[@]}" "$content" ;;
    unit) unit "${fields[1]}" "$content" "${fields[@]:2}" ;;
    alone)
        alone
        only "$step" "${things[@]}"
        ;;
    packages | user | artifact | archived | unpacked | member | directory | in_place | link | \
        masked | settle | not_newer | rolls | lock_at | shared | walks | run) "${fields[@]}" ;;
    keeps | end) ;;
    *) problem "this program does not know ${fields[0]}, a record of the step's data" ;;
    esac
done
[ -z "$outcome" ] || echo "$outcome"
