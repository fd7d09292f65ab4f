#!/usr/bin/env python3
"""The newest criterion run under target/criterion as the table of docs/benchmarks.md.

    cargo bench -p floe-bench && bench/record/stages.py [--raw FILE]
    bench/record/stages.py --of FILE

Per id: median of the samples per unit (a line, a series, a value, a point) or per pass, quartiles,
throughput. --raw writes the samples, ns per pass, beside it; --of takes such a file instead of a run.
"""
import json
import math
import pathlib
import statistics
import sys

WALL = ("shard/threads/", "flush/swap", "flush/counters_written", "flush/counters_two_workers",
        "segment/commit")


def three_digits(value):
    value = float(f"{value:.2e}")
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def shown(ns):
    for unit, size in (("ns", 1), ("µs", 1e3), ("ms", 1e6)):
        if ns < 999.5 * size:
            return f"{three_digits(ns / size)} {unit}"
    return f"{three_digits(ns / 1e9)} s"


def samples():
    root = pathlib.Path(__file__).resolve().parents[2] / "target" / "criterion"
    raw = []
    for path in sorted(root.glob("**/new/benchmark.json")):
        about = json.loads(path.read_text())
        sample = json.loads((path.parent / "sample.json").read_text())
        passes = [time / count for time, count in zip(sample["times"], sample["iters"])]
        unit, per_pass = next(iter((about.get("throughput") or {"Passes": 1}).items()))
        raw.append({"id": about["full_id"], "unit": unit, "per_pass": per_pass,
                    "samples_ns": [round(ns) for ns in passes]})
    return raw


def main():
    if "--of" in sys.argv:
        raw = json.loads(pathlib.Path(sys.argv[sys.argv.index("--of") + 1]).read_text())
    else:
        raw = samples()
    print("| id | clock | median per unit | quartiles | throughput |\n|---|---|---|---|---|")
    for each in sorted(raw, key=lambda one: one["id"]):
        is_bytes = each["unit"] == "Bytes"
        units = 1 if is_bytes else each["per_pass"]
        low, median, high = statistics.quantiles(each["samples_ns"], n=4)
        rate = each["per_pass"] / median
        throughput = f"{rate:.2f} GB/s" if is_bytes else f"{three_digits(rate * 1e3)} M/s"
        clock = "wall" if each["id"].startswith(WALL) else "CPU"
        quartiles = f"{shown(low / units)} to {shown(high / units)}"
        print(f"| `{each['id']}` | {clock} | {shown(median / units)}"
              f"{' a pass' if is_bytes else ''} | {quartiles} | {throughput} |")
    if "--raw" in sys.argv:
        out = pathlib.Path(sys.argv[sys.argv.index("--raw") + 1])
        out.write_text("[\n" + ",\n".join(json.dumps(each) for each in raw) + "\n]\n")


if __name__ == "__main__":
    main()
