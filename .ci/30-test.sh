#!/usr/bin/env bash
# Every test, the end-to-end ones against a real Graphite included.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --workspace --locked
