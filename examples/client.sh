#!/usr/bin/env bash
# A client of the ordering API behind sessiongate: opens a session, orders, and behaves as docs/client-guide.md says
# when it is refused. Try it on the demo:
#
#   sessiongate demo                      # prints GATE, CLIENT and TOKEN
#   GATE=.. CLIENT=.. TOKEN=.. examples/client.sh
set -euo pipefail

: "${GATE:?the address of the gate, such as http://127.0.0.1:8080}"
: "${CLIENT:?the client-id}"
: "${TOKEN:?the access token}"

CORRELATION=$(cat /proc/sys/kernel/random/uuid) # one per business operation
ANSWER=$(mktemp -d)
trap 'rm -rf "$ANSWER"' EXIT
SESSION=

header() { # of the last answer
    tr -d '\r' <"$ANSWER/head" | awk -v name="$1:" 'tolower($1) == name { print $2; exit }'
}

code() { # the problem code of the last answer; empty if it is not a refusal of the gate
    case "$(header content-type)" in
        application/problem+json) sed -n 's/.*"code":"\([a-z-]*\)","instance".*/\1/p' "$ANSWER/body" ;;
    esac
}

send() { # METHOD PATH [curl arguments]: the status is printed
    local method=$1 path=$2
    shift 2
    curl -s -X "$method" "$GATE$path" -D "$ANSWER/head" -o "$ANSWER/body" -w '%{http_code}' \
        -H "authorization: Bearer $TOKEN" -H "client-id: $CLIENT" -H "x-correlation-id: $CORRELATION" \
        -H 'accept: application/json' ${SESSION:+-H "session-id: $SESSION"} "$@"
}

stop() {
    echo "$1: $(cat "$ANSWER/body")" >&2
    exit 1
}

open() {
    local key try status
    key=$(cat /proc/sys/kernel/random/uuid) # the same for all tries: never two sessions
    SESSION=
    for try in 1 2 3; do
        status=$(send POST /session -H "idempotency-key: $key")
        case $status in
            200 | 201)
                SESSION=$(header session-id)
                echo "session opened, $(header session-expires-in) s to go"
                return
                ;;
            429 | 503) sleep "$(header retry-after)" ;;
            *) stop "POST /session was refused with $status" ;;
        esac
    done
    stop "POST /session was refused $try times"
}

call() { # METHOD PATH [BODY]: the answer is printed
    local method=$1 path=$2 try status
    local body=()
    # The key is the same for all tries: whatever happens, the call has its effect once.
    [ $# -lt 3 ] || body=(-H 'content-type: application/json' -d "$3"
        -H "idempotency-key: $(cat /proc/sys/kernel/random/uuid)")
    for try in 1 2 3; do
        status=$(send "$method" "$path" "${body[@]}")
        case $status:$(code) in
            2*:)
                echo "$method $path: $status $(cat "$ANSWER/body")"
                return
                ;;
            401:token-invalid) stop "a new token is needed; the session goes on" ;;
            404:session-*)
                echo "the session has ended ($(code)), so a new one is opened"
                open
                ;;
            429:* | 503:?*) sleep "$(header retry-after)" ;;
            409:step-in-progress | 409:idempotency-in-flight) sleep 1 ;;
            409:step-not-allowed) stop "$method $path comes out of order" ;;
            502:?* | 504:?*) ;; # The outcome is unknown: the key makes it safe to ask again, if the flow has such a step.
            *) stop "$method $path was refused with $status" ;;
        esac
    done
    stop "$method $path failed $try times"
}

open
call POST /eligibility '{"address":"1 Main Street, Springfield"}'
call GET /offers
call PUT /configurations/fiber-500 '{"options":["static-ip"]}'
call POST /orders '{"offer":"fiber-500"}'
call POST /installations '{"date":"2027-01-15"}'
echo "session closed: $(send DELETE /session)"
