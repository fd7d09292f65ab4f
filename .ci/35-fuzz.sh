#!/usr/bin/env bash
# A round of hostile input for every reader, from a seed of its own each day, so that the checks meet
# more than the same inputs; a failure prints seed and input. As built for the tests: about 20 s.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --quiet --locked --package floe-fuzz -- all --seconds 2 \
  --seed "${FLOE_FUZZ_SEED:-$(date +%Y%m%d)}"
