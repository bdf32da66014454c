# For scripts that bring up parts of a cluster: sourced, with `state` set to their folder.

children=()

# run NAME PROGRAM ARGUMENT...: in the background; it ends with this script even where that is killed.
run() {
    local name=$1
    shift
    setpriv --pdeathsig KILL "$@" >"$state/log/$name.log" 2>&1 </dev/null &
    children+=($!)
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
