#!/usr/bin/env bash
# The workspace lints hold in every target; a warning is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo clippy --workspace --all-targets --locked -- -D warnings
