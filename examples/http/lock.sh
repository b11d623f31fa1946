#!/bin/sh
# Runs a command while it has a lock, and renews the lock meanwhile; ends the command, with status 5, if that is lost:
#   sh lock.sh http://127.0.0.1:8181/v1/maps/jobs nightly sh -c 'echo "my token is $COORD_TOKEN"'
[ $# -ge 3 ] || { echo "usage: sh lock.sh MAP_URL KEY CMD..." >&2; exit 2; }
map=$1 key=$2
shift 2

# Seconds of a clock that is never set, and that goes on while the machine sleeps.
now() { cut -d. -f1 /proc/uptime; }

member() { printf %s "$answer" | sed -n "s/.*\"$1\":\"*\([0-9.]*\).*/\1/p"; }

# lock OPTION...: asks for the lock, or renews it. From `until` on it may be another's: that counts from the sending.
lock() {
    sent=$(now)
    answer=$(curl -s -w ' %{http_code}' -G -X PUT --data-urlencode "key=$key" -d "lease=$lease" "$@" "$map/lock")
    status=${answer##* }
    [ "$status" = 200 ] || return
    renewed=$sent ttl=$(member ttl) waited=$(member waited)
    ttl=${ttl%.*}
    until=$((sent + ${waited%.*} + ttl))
}

give_back() {
    [ -z "$command" ] || { kill "$command" && wait "$command"; } 2>/dev/null
    curl -s -o /dev/null -G -X DELETE --max-time 5 --data-urlencode "key=$key" -d "lease=$lease" "$map/lock"
}

status=410 command=
trap give_back EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
until [ "$status" = 200 ]; do
    case $status in
    408 | 429 | 503 | 000) sleep 1 ;;
    # A lease that has ended never comes back.
    410) lease=$(cat /proc/sys/kernel/random/uuid) ;;
    *) printf '%s\n' "$answer" >&2 && exit 1 ;;
    esac
    lock -d wait=20 ${TTL:+-d "ttl=$TTL"}
done
token=$(member token)

COORD_TOKEN=$token "$@" &
command=$!
while kill -0 "$command" 2>/dev/null; do
    if [ "$(now)" -ge "$until" ] || [ "$status" = 410 ]; then
        echo "$key: the lock is lost" >&2
        exit 5
    fi
    sleep 1
    [ "$(now)" -lt $((renewed + ttl / 3)) ] || lock --max-time 5 -d "token=$token"
done
wait "$command"
