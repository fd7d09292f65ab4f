//! Many inputs, one after the other, until one breaks a claim or the round is over.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Context;

use crate::mutate;
use crate::random::Random;
use crate::targets::{Reader, Target};
use crate::{corpus, shrink};

/// An input that broke a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The input, as small as it goes.
    pub input: Vec<u8>,
    /// What was broken.
    pub problem: String,
    /// Inputs before it.
    pub after: u64,
}

/// Hands one input to `reader`; a panic is a failure like any other.
///
/// # Errors
/// The claim that the input breaks.
pub fn check(reader: &mut dyn Reader, input: &[u8]) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| reader.check(input))) {
        Ok(result) => result,
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", text.unwrap_or("of another type than text")))
        }
    }
}

/// Replays the corpus of `target`; returns the number of its inputs.
///
/// # Errors
/// The first one that breaks a claim, by name.
pub fn replay(target: &Target) -> anyhow::Result<usize> {
    let inputs = corpus::read(target.name)?;
    let mut reader = (target.reader)();
    for (name, input) in &inputs {
        check(&mut *reader, input)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("corpus/{}/{name} = {}", target.name, input.escape_ascii()))?;
    }
    Ok(inputs.len())
}

/// Makes inputs from `seed` while `go_on` says so, which is told their number.
///
/// # Errors
/// The corpus cannot be read.
pub fn run(
    target: &Target,
    seed: u64,
    mut go_on: impl FnMut(u64) -> bool,
) -> anyhow::Result<Result<u64, Failure>> {
    let kept: Vec<Vec<u8>> =
        corpus::read(target.name)?.into_iter().map(|(_, input)| input).collect();
    let mut random = Random::new(seed);
    let mut reader = (target.reader)();
    let mut count = 0;
    while go_on(count) {
        let input = mutate::input(&mut random, &target.grammar, &kept);
        if let Err(problem) = check(&mut *reader, &input) {
            let fails = |input: &[u8]| check(&mut *(target.reader)(), input).is_err();
            // A failure that needs the inputs before it is kept as it was.
            let input =
                if fails_alone(target, &input) { shrink::shrink(&input, fails) } else { input };
            return Ok(Err(Failure { input, problem, after: count }));
        }
        count += 1;
    }
    Ok(Ok(count))
}

fn fails_alone(target: &Target, input: &[u8]) -> bool {
    check(&mut *(target.reader)(), input).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::Grammar;

    struct Fragile;

    impl Reader for Fragile {
        fn check(&mut self, input: &[u8]) -> Result<(), String> {
            assert!(!input.windows(2).any(|pair| pair == b"|#"), "a panic");
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_found_and_made_small() {
        let target = Target {
            name: "tags",
            about: "",
            grammar: Grammar { words: &["|#"], delimiters: b"|" },
            reader: || Box::new(Fragile),
        };
        let failure = run(&target, 1, |count| count < 1_000).unwrap().unwrap_err();
        assert_eq!((&failure.input[..], &failure.problem[..]), (&b"|#"[..], "panic: a panic"));
    }
}
