#!/usr/bin/env bash
# Sends the shared workload from a shell, one datagram per line: HOST PORT PREFIX.
set -euo pipefail
host=$1 port=$2 prefix=$3
# One socket, as one client has: several would be several senders, whose gauges have no order.
exec 3<> "/dev/udp/$host/$port"
send() { printf '%s' "$prefix.$1" >&3; }
for _ in 1 2 3 4 5 6 7 8 9 10; do send 'hits:1|c'; done
send 'hits:7|c'
send 'level:40|g'
send 'level:+2|g'
for ms in 10 20 30; do send "latency:$ms|ms"; done
for user in ann bob cy; do send "users:$user|s"; done
