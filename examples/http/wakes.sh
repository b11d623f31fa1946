#!/bin/sh
# Runs a command for each wake of a key, with the answer on its standard input, and misses none between two answers:
#   sh wakes.sh http://127.0.0.1:8181/v1/maps/deploy ready sh -c 'cat'
[ $# -ge 3 ] || { echo "usage: sh wakes.sh MAP_URL KEY CMD..." >&2; exit 2; }
map=$1 key=$2 since=
shift 2
while :; do
    answer=$(curl -sSf --retry 9999 --retry-connrefused -H 'Prefer: handling=lenient' --get \
        --data-urlencode "key=$key" ${since:+-d "since=$since"} "$map/wait")
    case $? in 0) ;; 22) exit 1 ;; *) sleep 1 && continue ;; esac
    since=$(printf %s "$answer" | sed 's/^{"revision":"\([0-9.]*\)".*/\1/')
    case $answer in *'"events":[]'*) ;; *) printf '%s\n' "$answer" | "$@" || exit ;; esac
done
