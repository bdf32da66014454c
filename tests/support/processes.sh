# shellcheck shell=bash disable=SC2154
# For scripts that start processes: sourced, with `state` set to their folder where they call `run`.

children=()

# run NAME PROGRAM ARGUMENT...: in the background; it ends with this script even where that is killed.
run() {
    local name=$1
    shift
    setpriv --pdeathsig KILL "$@" >"$state/log/$name.log" 2>&1 </dev/null &
    children+=($!)
}

# The process groups of the command that in_front waits for, and of its guard.
front=
guard=

# in_front PROGRAM ARGUMENT...: waits for it as in the foreground, but can be interrupted meanwhile. A
# script that calls it calls end_front in its trap for EXIT; then what the program has started ends with the
# script, as far as it stays in one process group. Where the script is killed, its guard sees to it.
in_front() {
    local status=0
    setsid "$@" &
    front=$!
    # shellcheck disable=SC2016 # they are for the other shell
    setsid bash -c 'while kill -0 "$0"; do sleep 1; done; kill -TERM -- "-$1"' $$ "$front" >/dev/null 2>&1 &
    guard=$!
    wait "$front" || status=$?
    front=
    end_front
    return "$status"
}

end_front() {
    local group
    for group in $front $guard; do
        kill -TERM -- "-$group" 2>/dev/null || true
        # The shell would tell of its end otherwise.
        wait "$group" 2>/dev/null || true
    done
    front=
    guard=
}

# until_true SECONDS COMMAND...: fails when the time is up, or when the newest child has ended.
until_true() {
    local ends=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < ends)) && kill -0 "${children[-1]}" 2>/dev/null || return 1
        sleep 0.1
    done
}

# until_nobody_listens WHAT: until standard input ends, however the process at its other end did; fails
# as soon as one of the children does.
until_nobody_listens() {
    while read -r -t 1 _ || (($? > 128)); do
        for child in "${children[@]}"; do
            if ! kill -0 "$child" 2>/dev/null; then
                echo "a part of the $1 has ended" >&2
                return 1
            fi
        done
    done
}
