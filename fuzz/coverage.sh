#!/usr/bin/env bash
# The same targets behind libFuzzer, guided by coverage, on the stable toolchain:
#   fuzz/coverage.sh TARGET [SECONDS]       finds inputs that reach new code; what fails is kept
#   fuzz/coverage.sh --minimize TARGET      leaves in the corpus one input per piece of code reached
# Wants g++ (libFuzzer is C++). No part of the workspace: `fuzz/coverage` is a package of its own, built
# into target/coverage, since the instrumentation is for every crate in it.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v g++ > /dev/null || { echo 'coverage: g++ is missing: apt-get install g++' >&2; exit 1; }
minimize=0
if [ "${1:-}" = --minimize ]; then minimize=1; shift; fi
target=${1:?a target: cargo run -p floe-fuzz lists them} seconds=${2:-60}
triple=$(rustc -vV | sed -n 's/^host: //p')

export RUSTFLAGS='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
 -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing'
RUSTFLAGS=$(tr -d '\n' <<< "$RUSTFLAGS")
# With a target named, build scripts and macros stay without instrumentation.
cargo build --release --quiet --manifest-path fuzz/coverage/Cargo.toml --target "$triple" \
  --target-dir target/coverage
fuzzer=target/coverage/$triple/release/floe-fuzz-coverage
export FLOE_FUZZ_TARGET=$target
corpus=fuzz/corpus/$target found=target/coverage/found/$target
mkdir -p "$found"
if [ "$minimize" = 1 ]; then
  # Those that are kept by name stay; what was found joins only where it reaches something new.
  # Inputs beyond 512 bytes cost more in the tree than they tell.
  "$fuzzer" -merge=1 -max_len=512 "$corpus" "$found"
  du -sh "$corpus"
  exit
fi
"$fuzzer" -max_total_time="$seconds" -max_len=2048 -timeout=10 -rss_limit_mb=2048 \
  -artifact_prefix="target/coverage/$target-" -print_final_stats=1 "$found" "$corpus"
