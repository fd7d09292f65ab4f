#!/usr/bin/env bash
# Each benchmark runs once, unmeasured: it compiles and its result is right.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --package floe-bench --benches --locked
