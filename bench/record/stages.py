#!/usr/bin/env python3
"""The newest criterion run under target/criterion as the table of docs/benchmarks.md.

    cargo bench -p floe-bench && bench/record/stages.py [--raw FILE]

Per id: median of the samples per unit (a line, a series, a value, a point) or per pass, quartiles,
throughput. --raw writes the samples, ns per pass, beside it.
"""
import json
import pathlib
import statistics
import sys

WALL = ("shard/threads/", "flush/swap", "flush/counters_written", "flush/counters_two_workers", "flush/pause",
        "segment/commit")


def shown(ns):
    return f"{ns / 1e6:.3f} ms" if 1e5 <= ns else f"{ns:.3g} ns"


def main():
    root = pathlib.Path(__file__).resolve().parents[2] / "target" / "criterion"
    raw = []
    for path in sorted(root.glob("**/new/benchmark.json")):
        about = json.loads(path.read_text())
        sample = json.loads((path.parent / "sample.json").read_text())
        passes = [time / count for time, count in zip(sample["times"], sample["iters"])]
        unit, per_pass = next(iter((about.get("throughput") or {"Passes": 1}).items()))
        raw.append({"id": about["full_id"], "unit": unit, "per_pass": per_pass,
                    "samples_ns": [round(ns) for ns in passes]})
    print("| id | clock | median per unit | quartiles | throughput |\n|---|---|---|---|---|")
    for each in sorted(raw, key=lambda one: one["id"]):
        is_bytes = each["unit"] == "Bytes"
        units = 1 if is_bytes else each["per_pass"]
        low, median, high = statistics.quantiles(each["samples_ns"], n=4)
        rate = each["per_pass"] / median
        throughput = f"{rate:.2f} GB/s" if is_bytes else f"{rate * 1e3:.3g} M/s"
        clock = "wall" if each["id"].startswith(WALL) else "CPU"
        quartiles = f"{shown(low / units)} to {shown(high / units)}"
        print(f"| `{each['id']}` | {clock} | {shown(median / units)}"
              f"{' a pass' if is_bytes else ''} | {quartiles} | {throughput} |")
    if "--raw" in sys.argv:
        out = pathlib.Path(sys.argv[sys.argv.index("--raw") + 1])
        out.write_text("[\n" + ",\n".join(json.dumps(each) for each in raw) + "\n]\n")


if __name__ == "__main__":
    main()
