#!/usr/bin/env bash
# A minute of the campaign: faults in a random order on the built daemon, and of each what was lost
# beside what may be. Another order each day; a line that does not hold prints the seed.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --release --quiet --locked --package floe-bench -- faults --duration 60s --record none \
  --seed "${FLOE_FAULTS_SEED:-$(date +%Y%m%d)}"
