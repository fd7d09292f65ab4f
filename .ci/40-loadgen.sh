#!/usr/bin/env bash
# A million lines over 10,000 names, in both packings and on both receive paths: loadgen acts as
# carbon and must explain every value. Release builds; rates well below what two cores carry.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --package floe --package floe-loadgen
bin=$PWD/target/release
work=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill -KILL "$daemon" 2> /dev/null || true; rm -rf "$work"' EXIT

free_port() { # udp|tcp
  python3 - "$1" <<'P'
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM
with socket.socket(socket.AF_INET, kind) as probe:
    probe.bind(("127.0.0.1", 0))
    print(probe.getsockname()[1])
P
}

run() { # ingest packing rate protocol
  local udp sink dir=$work/$1-$2
  mkdir "$dir"
  udp=$(free_port udp) sink=$(free_port tcp)
  printf 'port = %s\nmgmt_port = 0\nflushInterval = 1000\n[[backends]]\nname = "sink"\naddress = "127.0.0.1:%s"\nprotocol = "%s"\n' \
    "$udp" "$sink" "$4" > "$dir/floe.toml"
  "$bin/floe" "$dir/floe.toml" --spool "$dir/spool" --ingest "$1" --ready-file "$dir/ready.json" \
    2> "$dir/log" &
  daemon=$!
  if ! timeout 180 "$bin/loadgen" --target "127.0.0.1:$udp" --lines 1000000 --names 10000 \
    --packing "$2" --rate "$3" --pacing sleep --sampled 20 --bad 1 --sink "$4=127.0.0.1:$sink" \
    --start-file "$dir/ready.json" --settle 60s; then
    echo "loadgen: not explained on $1, $2; the daemon said:" >&2
    cat "$dir/log" >&2
    exit 1
  fi
  kill -TERM "$daemon"
  wait "$daemon"
  daemon=
}

run io_uring packed 250000 text
run recvmmsg packed 250000 pickle
run io_uring single 100000 pickle
run recvmmsg single 100000 text
