#!/usr/bin/env bash
# The same targets behind libFuzzer, guided by coverage, on the stable toolchain:
#   fuzz/coverage.sh TARGET [SECONDS]       finds inputs that reach new code; what fails is kept
#   fuzz/coverage.sh --minimize TARGET      takes the fewest that reach all of it into the corpus
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
  # The fewest small inputs that reach all that is reached join those that are kept by name.
  least=$(mktemp -d)
  trap 'rm -rf "$least"' EXIT
  "$fuzzer" -set_cover_merge=1 -use_counters=0 -max_len=256 "$least" "$corpus" "$found"
  rm -f "$corpus"/found-*
  for input in $(find "$least" -type f -printf '%s %p\n' | sort -n | head -n 100 | cut -d ' ' -f 2); do
    cp "$input" "$corpus/found-$(basename "$input" | cut -c 1-12)"
  done
  du -sh --apparent-size "$corpus"
  exit
fi
"$fuzzer" -max_total_time="$seconds" -max_len=2048 -timeout=10 -rss_limit_mb=2048 \
  -artifact_prefix="target/coverage/$target-" -print_final_stats=1 "$found" "$corpus"
