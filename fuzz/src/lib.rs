//! Hostile input for everything of floe that reads bytes from outside.
//!
//! A *target* is one such reader with the claims that must hold for any input. Inputs come from the
//! kept corpus (`corpus/<target>`), changed by mutators that know the words of the target's grammar
//! (`mutate`), all of it from one seed: the same seed makes the same inputs. What breaks a claim is
//! made as small as it goes (`shrink`), printed and written down; once mended it goes into the corpus,
//! which every test run replays.
//!
//! The same targets stand behind a coverage-guided fuzzer (`coverage.sh`).

/// The allocator of everything that links this, so that targets can say how much a reader allocates.
#[path = "../../core/tests/counting/mod.rs"]
mod counting;
/// What the parser is compared with.
#[path = "../../core/tests/line_model/mod.rs"]
mod line_model;

/// Numbers from a seed.
pub mod random;
/// Inputs changed by someone who knows the grammar.
pub mod mutate;
/// Files of inputs.
pub mod corpus;
/// A receiver of Carbon's protocols, as Carbon has it.
pub mod carbon;
/// The readers, and what must hold of each.
pub mod targets;
/// A failing input made smaller.
pub mod shrink;
/// Many inputs, one after the other.
pub mod round;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;
