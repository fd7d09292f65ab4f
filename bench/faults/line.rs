//! One line per fault: how often, how much was lost, how much may be, whether that holds.

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::judge::Injection;
use crate::compare::table::Table;

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Every injection holds.
    Holds,
    /// One did not.
    Broken,
    /// The round was over before.
    NotReached,
    /// This machine cannot do it.
    NotHere,
}

/// All injections of one fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Its name.
    pub(crate) fault: String,
    /// What is done.
    pub(crate) what: String,
    /// What may be lost.
    pub(crate) allows: String,
    /// How often it was done.
    pub(crate) injected: usize,
    /// Most datagrams lost at once, of those sent.
    pub(crate) lost: u64,
    /// As many could have been lost then.
    pub(crate) allowed: u64,
    /// The verdict.
    pub(crate) verdict: Verdict,
    /// What does not hold, or why it is not here.
    pub(crate) note: String,
}

impl Line {
    /// Of `fault`, by all `injections`; `absent` says why it is not here.
    pub(crate) fn of(fault: &Fault, injections: &[Injection], absent: Option<&str>) -> Self {
        let of: Vec<&Injection> =
            injections.iter().filter(|each| each.fault == fault.name).collect();
        let worst = of.iter().max_by_key(|each| (each.lost, each.allowed));
        let broken: Vec<&&Injection> = of.iter().filter(|each| !each.failures.is_empty()).collect();
        let verdict = match (absent, of.is_empty(), broken.is_empty()) {
            (Some(_), ..) => Verdict::NotHere,
            (None, true, _) => Verdict::NotReached,
            (None, false, true) => Verdict::Holds,
            (None, false, false) => Verdict::Broken,
        };
        let note = match (absent, broken.first()) {
            (Some(reason), _) => reason.to_owned(),
            (None, Some(first)) => format!(
                "{} of {}; lane {}, number {}: {}",
                broken.len(),
                of.len(),
                first.place.0,
                first.place.1,
                first.failures.join("; ")
            ),
            (None, None) => String::new(),
        };
        Self {
            fault: fault.name.to_owned(),
            what: fault.what.to_owned(),
            allows: fault.allows.to_owned(),
            injected: of.len(),
            lost: worst.map_or(0, |each| each.lost),
            allowed: worst.map_or(0, |each| each.allowed),
            verdict,
            note,
        }
    }

    const fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Holds => "holds",
            Verdict::Broken => "DOES NOT HOLD",
            Verdict::NotReached => "not reached",
            Verdict::NotHere => "not here",
        }
    }
}

/// All lines; what does not hold is said below.
pub(crate) fn table(lines: &[Line]) -> Table {
    let mut table = Table::new(&[
        "fault",
        "injected",
        "most lost",
        "allowed",
        "holds",
        "what is done",
        "what may be lost",
    ]);
    for line in lines {
        table.row(vec![
            line.fault.clone(),
            line.injected.to_string(),
            line.lost.to_string(),
            line.allowed.to_string(),
            line.word().to_owned(),
            line.what.clone(),
            line.allows.clone(),
        ]);
    }
    table
}

/// What the table has no room for, a line each.
pub(crate) fn notes(lines: &[Line]) -> String {
    let noted = lines.iter().filter(|line| !line.note.is_empty());
    noted.map(|line| format!("{}: {}: {}\n", line.fault, line.word(), line.note)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fault::all;
    use super::*;

    fn injection(fault: &Fault, lost: u64, failures: &[&str]) -> Injection {
        let failures = failures.iter().map(|text| (*text).to_owned()).collect();
        Injection {
            lost,
            allowed: 10,
            failures,
            ..Injection::failed(fault, (1, 2), 0, String::new())
        }
    }

    #[test]
    fn one_failure_breaks_the_line() {
        let fault = &all()[0];
        let held = injection(fault, 7, &[]);
        let line = Line::of(fault, &[held.clone(), injection(fault, 3, &[])], None);
        assert_eq!((line.injected, line.lost, line.allowed), (2, 7, 10));
        assert_eq!((line.verdict, line.note.as_str()), (Verdict::Holds, ""));
        let line = Line::of(fault, &[held, injection(fault, 3, &["two", "three"])], None);
        assert_eq!(line.verdict, Verdict::Broken);
        assert_eq!(line.note, "1 of 2; lane 1, number 2: two; three");
    }

    #[test]
    fn what_was_not_done_is_said() {
        let fault = &all()[0];
        let lines = [Line::of(fault, &[], None), Line::of(fault, &[], Some("no root"))];
        assert_eq!(
            lines.each_ref().map(|line| line.verdict),
            [Verdict::NotReached, Verdict::NotHere]
        );
        let text = format!("{}{}", table(&lines).text(), notes(&lines));
        assert!(text.contains("not reached") && text.ends_with("not here: no root\n"), "{text}");
    }
}
