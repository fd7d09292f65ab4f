#!/usr/bin/env bash
# The data plane costs no more instructions a line than recorded, within 3 %: parse, hash and record
# of a fixed workload, counted by callgrind, which runs them all on a CPU of its own making and so
# says the same on every machine. A time would not: this one is shared.
#   .ci/70-instructions.sh            compare with .ci/instructions.txt
#   .ci/70-instructions.sh --record   write it anew, with the change that made it so
# Where there is no valgrind, Debian's package is unpacked into target/valgrind, not installed.
set -euo pipefail
cd "$(dirname "$0")/.."
record=.ci/instructions.txt
limit_percent=3

if command -v valgrind > /dev/null; then
  valgrind=valgrind
else
  folder=$PWD/target/valgrind
  if [ ! -x "$folder/usr/bin/valgrind" ]; then
    mkdir -p "$folder"
    (cd "$folder" && { apt-get download valgrind || { apt-get update && apt-get download valgrind; }; } &&
      dpkg -x valgrind_*.deb .) > "$folder.log" 2>&1 ||
      { echo "instructions: no valgrind, and it cannot be fetched: apt-get install valgrind" >&2
        tail -3 "$folder.log" >&2; exit 1; }
  fi
  valgrind=$folder/usr/bin/valgrind
  VALGRIND_LIB=$(dirname "$(find "$folder" -name 'callgrind-amd64-linux' | head -n 1)")
  export VALGRIND_LIB
fi

cargo build --release --locked --package floe-bench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

count() { # packing -> instructions a line, one decimal
  "$valgrind" --tool=callgrind --toggle-collect='*feed::watched*' --callgrind-out-file="$work/out" \
    target/release/floe-bench feed "$1" > "$work/lines" 2> "$work/log" ||
    { cat "$work/log" >&2; exit 1; }
  awk -v lines="$(cat "$work/lines")" '/Collected/ { printf "%.1f\n", $NF / lines }' "$work/log"
}

rust=$(rustc --version | cut -d ' ' -f 2)
if [ "${1:-}" = --record ]; then
  # One after the other: a count that fails leaves the record as it was.
  packed=$(count packed)
  single=$(count single)
  printf '%s rust-%s\n' "packed $packed" "$rust" "single $single" "$rust" | tee "$record"
  exit
fi
failed=0
checked=0
while read -r packing recorded toolchain; do
  checked=$((checked + 1))
  found=$(count "$packing")
  echo "instructions: feed $packing: $found a line, recorded $recorded ($toolchain, here rust-$rust)"
  if awk -v found="$found" -v recorded="$recorded" -v limit="$limit_percent" \
    'BEGIN { exit !(found == "" || recorded * (1 + limit / 100) < found) }'; then
    echo "instructions: feed $packing grew by more than $limit_percent %; callgrind_annotate tells where." >&2
    echo "instructions: if it is worth it: .ci/70-instructions.sh --record, and say so in the commit" >&2
    failed=1
  fi
  # A function that callgrind no longer finds by its name costs nothing.
  if awk -v found="$found" -v recorded="$recorded" 'BEGIN { exit !(found < recorded / 2) }'; then
    echo "instructions: feed $packing: less than half is no gain but a count that missed its function" >&2
    failed=1
  fi
done < "$record"
if [ "$checked" != 2 ]; then
  echo "instructions: $record has $checked lines, not those of packed and single" >&2
  failed=1
fi
exit "$failed"
