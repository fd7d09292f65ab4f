//! One target of `floe_fuzz`, named by `FLOE_FUZZ_TARGET`, behind libFuzzer.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod entry {
    use std::cell::RefCell;

    use floe_fuzz::targets::{Reader, TARGETS};

    thread_local! {
        static READER: RefCell<Box<dyn Reader>> = RefCell::new(reader());
    }

    fn reader() -> Box<dyn Reader> {
        let name = std::env::var("FLOE_FUZZ_TARGET").unwrap_or_default();
        let target = TARGETS.iter().find(|target| target.name == name);
        (target.expect("FLOE_FUZZ_TARGET names a target").reader)()
    }

    libfuzzer_sys::fuzz_target!(|input: &[u8]| {
        READER.with_borrow_mut(|reader| {
            if let Err(problem) = reader.check(input) {
                panic!("{problem}");
            }
        });
    });
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("built by fuzz/coverage.sh, which says what to count");
    std::process::exit(2);
}
