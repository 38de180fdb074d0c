# shellcheck shell=bash
# What the scripts in cluster/ share: where things are, which process is ours, and how a part is
# started, awaited and ended. Sourced, never run.

set -euo pipefail

cluster_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root_dir=$(dirname "$cluster_dir")
# Elsewhere for a second cluster beside the first, as cluster/test does.
run_dir=${CLUSTER_RUN_DIR:-$cluster_dir/.run}
logs_dir="$run_dir/logs"
config_dir="$run_dir/config"
# Present from the moment parts are started until they have been ended.
settings_file="$run_dir/settings"

# --- what the user sees ---

if [[ -t 1 ]]; then on_terminal=1; else on_terminal=0; fi

say() { printf '%s\n' "$*"; }

# choose 0|1 YES NO
choose() { if (($1)); then say "$2"; else say "$3"; fi; }

# A line that the next one replaces; nothing where no terminal would replace it.
progress() {
    if ((on_terminal)); then printf '\r\033[K%s' "$*"; fi
}

end_progress() {
    if ((on_terminal)); then printf '\r\033[K'; fi
}

warn() { printf '%s\n' "$*" >&2; }

fail() {
    end_progress
    warn "$*"
    exit 1
}

show_log_end() {
    local file=$1 lines=${2:-15}
    if [[ -s $file ]]; then
        warn "--- the last lines of ${file#"$root_dir"/}:"
        tail -n "$lines" -- "$file" >&2
    else
        warn "--- ${file#"$root_dir"/} is empty"
    fi
}

# --- settings ---

# What the environment asks for. RUN_ID, set by `up`, tells one run of the cluster from another. Called by `up`; the other scripts read what `up` has written.
settings_from_environment() {
    NODES=${NODES:-3}
    PORT=${PORT:-8080}
    NODE_PORT_BASE=${NODE_PORT_BASE:-8081}
    REDIS_PORT=${REDIS_PORT:-6390}
    REDIS_AOF=${REDIS_AOF:-0}
    FEED=${FEED:-1}
    DEV_KAFKA_PARTITIONS=${DEV_KAFKA_PARTITIONS:-24}
    KAFKA_BOOTSTRAP_SERVERS=${KAFKA_BOOTSTRAP_SERVERS:-}
    # A program built elsewhere; empty builds it.
    BINARY=${BINARY:-}
    check_number NODES 1 64
    check_number PORT 1 65535
    check_number NODE_PORT_BASE 1 $((65536 - NODES))
    check_number REDIS_PORT 1 65535
    check_number REDIS_AOF 0 1
    check_number FEED 0 1
    check_number DEV_KAFKA_PARTITIONS 1 1024
}

check_number() {
    local name=$1 low=$2 high=$3
    local value=${!name}
    # At most nine digits, so that the comparison cannot overflow; 10# because 08 is no octal.
    if ! [[ $value =~ ^[0-9]{1,9}$ ]] || ((10#$value < low || 10#$value > high)); then
        fail "$name=$value is not possible: expected a number from $low to $high"
    fi
    printf -v "$name" '%d' "$((10#$value))"
}

save_settings() {
    local name
    for name in NODES PORT NODE_PORT_BASE REDIS_PORT REDIS_AOF FEED DEV_KAFKA_PARTITIONS \
        KAFKA_BOOTSTRAP_SERVERS BINARY RUN_ID; do
        printf '%s=%q\n' "$name" "${!name}"
    done >"$settings_file.new"
    mv -- "$settings_file.new" "$settings_file"
}

load_settings() {
    [[ -f $settings_file ]] || return 1
    # shellcheck source=/dev/null
    source "$settings_file"
}

has_own_kafka() { [[ -z $KAFKA_BOOTSTRAP_SERVERS ]]; }

# The parts in the order in which they start.
all_parts() {
    local number
    say redis
    if has_own_kafka; then say kafka; fi
    for ((number = 1; number <= NODES; number++)); do say "node-$number"; done
    say haproxy
    if ((FEED)); then say feed; fi
}

node_port() { say "$((NODE_PORT_BASE + ${1#node-} - 1))"; }

# --- one script at a time ---

# Changes to the cluster exclude each other. Children must not inherit the lock: start_part and
# every long command close it with `9>&-`.
take_lock() {
    mkdir -p "$run_dir"
    exec 9>"$run_dir/lock"
    flock -n 9 || fail "another cluster script is at work; wait for it (lock: cluster/.run/lock)"
}

release_lock() { exec 9>&-; }

# --- which process is ours ---

# A process is known by its number and its start time: a number alone may belong to a stranger by
# the time it is used. `identity/NAME` holds both and a word of the command line.

# The field of /proc/PID/stat with the number of proc(5); the name in parentheses may hold blanks.
process_field() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    read -r -a fields <<<"${stat##*) }"
    say "${fields[$2 - 3]}"
}

process_has_word() {
    local line
    { line=$(tr '\0' ' ' <"/proc/$1/cmdline"); } 2>/dev/null || return 1
    [[ $line == *"$2"* ]]
}

# The PID of a part that lives, on standard output. False where it has ended or was never started.
live_pid() {
    local pid started word
    { read -r pid started word <"$run_dir/identity/$1"; } 2>/dev/null || return 1
    [[ $(process_field "$pid" 22) == "$started" ]] || return 1
    # A zombie has ended, whoever has yet to notice.
    [[ $(process_field "$pid" 3) != Z ]] || return 1
    process_has_word "$pid" "$word" || return 1
    say "$pid"
}

is_alive() { live_pid "$1" >/dev/null; }

# Signals a part if it lives, never anybody else.
signal_part() {
    local pid
    pid=$(live_pid "$2") || return 1
    kill -"$1" "$pid" 2>/dev/null
}

is_paused() {
    local pid
    pid=$(live_pid "$1") && [[ $(process_field "$pid" 3) == T ]]
}

forget_part() { rm -f -- "$run_dir/$1.pid" "$run_dir/identity/$1"; }

# --- ports ---

# The inode of the socket that listens on a TCP port, from the kernel's own tables.
listening_inodes() {
    local hex
    printf -v hex '%04X' "$1"
    awk -v port=":$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { print $10 }' \
        /proc/net/tcp /proc/net/tcp6 2>/dev/null || true
}

# Who listens on a port, in words; empty where nobody does.
port_owner() {
    local inode link pid
    inode=$(listening_inodes "$1" | head -n 1)
    [[ -n $inode ]] || return 0
    link=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$inode\]" -print -quit 2>/dev/null || true)
    if [[ -z $link ]]; then
        say "a process of another user"
        return 0
    fi
    pid=${link#/proc/}
    pid=${pid%%/*}
    say "PID $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || say '(ended just now)')"
}

# False, and a line about each, where a port of the given `PORT NAME` lines is taken.
ports_are_free() {
    local port name owner free=1
    while read -r port name; do
        owner=$(port_owner "$port")
        [[ -z $owner ]] && continue
        warn "port $port ($name) is in use by $owner"
        free=0
    done
    ((free))
}

# --- starting and ending parts ---

# start_part NAME WORD COMMAND...: runs the command in a session of its own, so that Ctrl-C on
# this terminal ends the parts in order instead of all at once. WORD is a part of its command line.
start_part() {
    local name=$1 word=$2
    shift 2
    mkdir -p "$run_dir/identity" "$logs_dir"
    setsid "$@" </dev/null >>"$logs_dir/$name.log" 2>&1 9>&- &
    local pid=$! started
    disown "$pid"
    started=$(process_field "$pid" 22) || started=0
    say "$pid $started $word" >"$run_dir/identity/$name"
    say "$pid" >"$run_dir/$name.pid"
    # Between fork and exec it still has this script's command line.
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        if is_alive "$name" || [[ ! -e /proc/$pid ]]; then return 0; fi
        sleep 0.01
    done
}

# wait_for_part NAME SECONDS CHECK...: polls until CHECK succeeds. Fails, with the end of the
# part's log, where the part ends or the time is over.
wait_for_part() {
    local name=$1 limit=$2
    shift 2
    local began=$SECONDS
    until "$@"; do
        if ! is_alive "$name"; then
            end_progress
            warn "$name ended while starting"
            show_log_end "$logs_dir/$name.log"
            return 1
        fi
        if ((SECONDS - began >= limit)); then
            end_progress
            warn "$name was not ready after $limit s"
            show_log_end "$logs_dir/$name.log"
            return 1
        fi
        progress "waiting for $name ($((SECONDS - began)) s)"
        sleep 0.1
    done
    end_progress
}

# end_parts SECONDS NAME...: SIGTERM to all, SIGKILL to what is left when the time is over.
end_parts() {
    local limit=$1 name left deadline
    shift
    for name in "$@"; do
        signal_part TERM "$name" || true
        # A stopped process would not see its end coming.
        signal_part CONT "$name" || true
    done
    deadline=$((SECONDS + limit))
    while :; do
        left=0
        for name in "$@"; do
            if is_alive "$name"; then left=1; fi
        done
        ((left)) || break
        if ((SECONDS >= deadline)); then
            for name in "$@"; do
                if signal_part KILL "$name"; then
                    warn "$name did not end within $limit s and was killed"
                fi
            done
            deadline=$((SECONDS + 5))
        fi
        sleep 0.05
    done
    for name in "$@"; do forget_part "$name"; done
}

# Ends everything, last started first, and forgets it. Works with what is left of a cluster.
end_cluster() {
    local number nodes=()
    for ((number = 1; number <= NODES; number++)); do nodes+=("node-$number"); done
    end_parts 5 feed
    end_parts 5 haproxy
    # They drain: notice, window, and what sockets take (docs/operating/cluster.md).
    end_parts 40 "${nodes[@]}"
    end_parts 5 kafka
    end_parts 10 redis
    rm -f -- "$run_dir/kafka.bootstrap" "$run_dir/kafka.sock" "$settings_file"
    rm -rf -- "$run_dir/identity"
}

# --- what each part is ---

node_config() {
    local number=$1 servers
    # A YAML list of quoted strings.
    servers=$(sed 's/[^,]*/"&"/g; s/,/, /g' <<<"$2")
    cat <<YAML
node:
  id: node-$number
server:
  listen: ["127.0.0.1:$(node_port "$number")"]
  # The load balancer.
  trusted_proxies: ["127.0.0.1"]
redis:
  url: redis://127.0.0.1:$REDIS_PORT/0
kafka:
  bootstrap_servers: [$servers]
YAML
    if has_own_kafka; then
        # The embedded broker answers a fetch when its wait is over, not when records arrive; and
        # a killed node shall be noticed while somebody watches.
        cat <<YAML
  session_timeout: 6s
  heartbeat_interval: 1s
  fetch_wait_max: 5ms
YAML
    fi
    cat <<YAML
cluster:
  relevel: true
telemetry:
  enabled: $(choose "$FEED" true false)
YAML
}

redis_config() {
    cat <<CONF
bind 127.0.0.1
port $REDIS_PORT
protected-mode yes
daemonize no
dir "$run_dir/redis"
save ""
appendonly $(choose "$REDIS_AOF" yes no)
# History that is evicted is lost. A Redis that is full refuses, and is made to let go of the oldest
# of its window.
maxmemory 1gb
maxmemory-policy noeviction
CONF
}

haproxy_config() {
    local number servers="" files maxconn
    for ((number = 1; number <= NODES; number++)); do
        servers+="    server node-$number 127.0.0.1:$(node_port "$number")"$'\n'
    done
    # Two sockets a stream, and some for itself. An unlimited number of files would make HAProxy
    # allocate tables for all of them.
    files=$(ulimit -Hn)
    if [[ $files == unlimited ]] || ((files > 200000)); then files=200000; fi
    maxconn=$(((files - 100) / 2))
    local text
    text=$(<"$cluster_dir/haproxy.cfg.in")
    text=${text//@MAXCONN@/$maxconn}
    text=${text//@PORT@/$PORT}
    text=${text//@SERVERS@/${servers%$'\n'}}
    say "$text"
}

start_redis() {
    mkdir -p "$run_dir/redis" "$config_dir"
    # Without the append-only file nothing may be left of an earlier run, or the history would
    # not fit the records of the new brokers.
    if ! ((REDIS_AOF)); then rm -rf -- "$run_dir/redis/appendonlydir" "$run_dir/redis/dump.rdb"; fi
    redis_config >"$config_dir/redis.conf"
    start_part redis redis-server redis-server "$config_dir/redis.conf"
}

start_kafka() {
    rm -f -- "$run_dir/kafka.bootstrap" "$run_dir/kafka.sock"
    start_part kafka rivulet "$BINARY" dev-kafka --brokers 3 --channels \
        --partitions "$DEV_KAFKA_PARTITIONS" --bootstrap-file "$run_dir/kafka.bootstrap" \
        --control-socket "$run_dir/kafka.sock"
}

start_node() {
    mkdir -p "$config_dir"
    node_config "$1" "$(<"$run_dir/kafka.bootstrap")" >"$config_dir/node-$1.yaml"
    start_part "node-$1" rivulet "$BINARY" serve --config "$config_dir/node-$1.yaml"
}

start_haproxy() {
    mkdir -p "$config_dir"
    haproxy_config >"$config_dir/haproxy.cfg"
    start_part haproxy haproxy haproxy -db -f "$config_dir/haproxy.cfg"
}

start_feed() {
    start_part feed rivulet "$BINARY" feed --bootstrap-servers "$(<"$run_dir/kafka.bootstrap")"
}

# drain_node N: has a node send its clients away and end, and shows how far it is.
drain_node() {
    local name=node-$1 port limit=90 began=$SECONDS code left
    port=$(node_port "$1")
    code=$(curl -s -o /dev/null -m 5 -w '%{http_code}' -X POST \
        "http://127.0.0.1:$port/admin/drain" 2>/dev/null || true)
    [[ $code == 202 ]] || fail "$name answers POST /admin/drain with ${code:-nothing}"
    while is_alive "$name"; do
        if ((SECONDS - began >= limit)); then
            fail "$name still drains after $limit s; cluster/node kill $1 ends it"
        fi
        left=$(curl -s -m 1 "http://127.0.0.1:$port/cluster" 2>/dev/null \
            | jq -r --arg id "$name" '.nodes[] | select(.id == $id) | .drain
                | "\(.phase), \(.clients_left) clients left"' 2>/dev/null || true)
        progress "$name drains: ${left:-waiting} ($((SECONDS - began)) s)"
        sleep 0.2
    done
    end_progress
    forget_part "$name"
    say "$name has drained and ended ($((SECONDS - began)) s)"
}

# bring_up_node N: starts it and waits until it is ready.
bring_up_node() {
    local name=node-$1
    say "$(node_port "$1") $name" | ports_are_free || exit 1
    ulimit -n "$(ulimit -Hn)"
    start_node "$1"
    wait_for_part "$name" 60 node_is_ready "$1" || {
        end_parts 5 "$name"
        exit 1
    }
    say "$name is ready (PID $(live_pid "$name"))"
}

# --- how each part is ---

answers_tcp() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

redis_is_ready() {
    [[ $(timeout 1 redis-cli -h 127.0.0.1 -p "$REDIS_PORT" ping 2>/dev/null) == PONG ]]
}

kafka_is_ready() {
    local server
    server=$(head -n 1 "$run_dir/kafka.bootstrap" 2>/dev/null) || return 1
    server=${server%%,*}
    [[ -n $server ]] && answers_tcp "${server%:*}" "${server##*:}"
}

# The status code of GET on a port of this machine; 000 where there is no answer.
http_status() {
    curl -s -o /dev/null -m 1 -w '%{http_code}' "http://127.0.0.1:$1$2" 2>/dev/null || true
}

node_is_ready() { [[ $(http_status "$(node_port "$1")" /readyz) == 200 ]]; }

# What a node says of itself under a name; empty where it says nothing.
node_says() {
    curl -s -m 1 "http://127.0.0.1:$(node_port "$1")/healthz" 2>/dev/null \
        | jq -r --arg name "$2" '.[$name] // empty' 2>/dev/null || true
}

# True once each node reads some of the partitions: before that, events wait in Kafka.
partitions_are_shared() {
    local number count
    for ((number = 1; number <= NODES; number++)); do
        count=$(node_says "$number" partitions)
        [[ $count =~ ^[0-9]+$ ]] && ((count > 0)) || return 1
    done
}

events_flow() {
    local count
    count=$(node_says 1 events_tailed)
    [[ $count =~ ^[0-9]+$ ]] && ((count > 0))
}

haproxy_is_ready() { [[ $(http_status "$PORT" /readyz) == 200 ]]; }

# What a live part answers: one or two words, of which `ready` alone is good.
part_health() {
    local name=$1 code
    if ! is_alive "$name"; then
        if [[ -e $run_dir/$name.pid ]]; then say dead; else say stopped; fi
        return
    fi
    if is_paused "$name"; then
        say paused
        return
    fi
    case $name in
        redis) redis_is_ready && code=200 || code=000 ;;
        kafka) kafka_is_ready && code=200 || code=000 ;;
        haproxy) code=$(http_status "$PORT" /readyz) ;;
        node-*) code=$(http_status "$(node_port "$name")" /readyz) ;;
        *) code=200 ;;
    esac
    case $code in
        200) say ready ;;
        000 | "") say "no answer" ;;
        *) say "answers $code" ;;
    esac
}

# --- Debian packages ---

install_packages() {
    local name rest missing=() failed=() as_root=()
    while read -r name rest; do
        [[ -z $name || $name == \#* ]] && continue
        if [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) != installed ]]; then
            missing+=("$name")
        fi
    done <"$cluster_dir/packages"
    ((${#missing[@]})) || return 0
    if ((EUID)); then
        command -v sudo >/dev/null || fail "missing packages: ${missing[*]} (not root, and no sudo)"
        as_root=(sudo)
    fi
    say "installing ${missing[*]}"
    local log="$logs_dir/packages.log"
    mkdir -p "$logs_dir"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q)
    # Where one source is out of reach, the others may still have what is missing.
    "${apt[@]}" update >"$log" 2>&1 </dev/null 9>&- || true
    if "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1 </dev/null 9>&-
    then
        return 0
    fi
    for name in "${missing[@]}"; do
        "${apt[@]}" install -y --no-install-recommends "$name" >>"$log" 2>&1 </dev/null 9>&- \
            || failed+=("$name")
    done
    ((${#failed[@]})) || return 0
    show_log_end "$log" 20
    fail "could not install: ${failed[*]}"
}

# --- the program ---

# run_logged WHAT LOG COMMAND...: shows that it goes on, keeps the output in LOG and shows its end
# on failure.
run_logged() {
    local what=$1 log=$2
    shift 2
    mkdir -p "$(dirname "$log")"
    local began=$SECONDS told=$SECONDS pid line
    ((on_terminal || !tells_progress)) || say "$what"
    # In a process group of its own, to be ended as a whole: nothing goes on behind a Ctrl-C.
    setsid "$@" >"$log" 2>&1 </dev/null 9>&- &
    pid=$!
    running_command=$pid
    while kill -0 "$pid" 2>/dev/null; do
        # Printable only: tests of hostile bytes print them.
        line=$(tail -c 300 "$log" 2>/dev/null | tr '\r' '\n' | tr -cd '[:print:]\n' \
            | grep -a -v '^ *$' | tail -n 1 || true)
        progress "$what ($((SECONDS - began)) s) ${line:0:60}"
        if ((!on_terminal && tells_progress && SECONDS - told >= 15)); then
            told=$SECONDS
            say "  $((SECONDS - began)) s: ${line:0:80}"
        fi
        sleep 0.2
    done
    running_command=
    end_progress
    local status=0
    wait "$pid" || status=$?
    if ((status)); then
        warn "$what failed after $((SECONDS - began)) s"
        show_log_end "$log" 40
        return "$status"
    fi
    say "$what: done in $((SECONDS - began)) s"
}

running_command=
# 0 where several commands run side by side, which would talk over each other.
tells_progress=1

stop_running_command() {
    if [[ -n $running_command ]]; then kill -- "-$running_command" 2>/dev/null || true; fi
}

# Sets BINARY to the program in the release configuration, built if need be.
build_program() {
    command -v swift >/dev/null \
        || fail "swift is not in the path: install Swift 6.3 (https://www.swift.org/install)"
    run_logged "building (swift build -c release)" "$logs_dir/build.log" \
        swift build --package-path "$root_dir" -c release --product rivulet || return 1
    # The link that the build keeps beside the directory of the architecture.
    BINARY="$root_dir/.build/release/rivulet"
}
