//! The table of stages in docs/benchmarks.md is what `bench/record/stages.py` makes of recorded samples.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The table that the script makes of a file of samples.
fn table_of(samples: &Path) -> String {
    let mut command = Command::new("python3");
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONIOENCODING", "utf-8");
    command.arg(repository().join("bench/record/stages.py")).arg("--of").arg(samples);
    let output = command.output().expect("python3 is there, as for other tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the table is UTF-8")
}

#[test]
fn page_has_the_table_of_the_samples_it_names() {
    let page = fs::read_to_string(repository().join("docs/benchmarks.md")).expect("the page");
    let (_, rest) = page.split_once("stages.py --raw ").expect("the command that made the table");
    let (named, _) = rest.split_once('`').expect("the command ends");
    let table = table_of(&repository().join(named));
    assert!(
        page.contains(&table),
        "docs/benchmarks.md has another table than stages.py --of {named}"
    );
}

#[test]
fn times_have_three_digits_and_the_unit_that_suits_them_and_only_those_by_the_clock_are_wall() {
    let samples = [
        ("flush/pause/10000", "[11199, 11199, 11199]", "| CPU | 11.2 µs | 11.2 µs to 11.2 µs |"),
        ("flush/swap/0", "[44, 44, 1000]", "| wall | 44.0 ns | 44.0 ns to 1.00 µs |"),
        ("a", "[999600, 2000000000, 2000000000]", "| CPU | 2.00 s | 1.00 ms to 2.00 s |"),
    ];
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let path = folder.path().join("samples");
    for (id, samples, expected) in samples {
        let each = format!(
            "[{{\"id\": \"{id}\", \"unit\": \"Elements\", \"per_pass\": 1, \"samples_ns\": {samples}}}]"
        );
        fs::write(&path, each).expect("the temporary folder has room");
        let table = table_of(&path);
        assert!(table.contains(&format!("| `{id}` {expected}")), "{table}");
    }
}
