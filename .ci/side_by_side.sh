#!/usr/bin/env bash
# The long comparison: the reference daemon and floe get the same traffic through a repeater for
# SECONDS (ten minutes where nothing is said), and what Graphite receives from both must be the same,
# name by name and value by value. `.ci/run` does a short one; this one is run by hand.
#   .ci/side_by_side.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
FLOE_SIDE_BY_SIDE_SECONDS=${1:-600} cargo test --locked --test drop_in_side_by_side
echo
cat target/side-by-side/report.txt
