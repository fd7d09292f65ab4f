//! Tables as text and as Markdown: the same cells, aligned for a terminal.

use super::feeds::{Feed, figures};
use super::measurement::Measurement;
use super::record::Of;
use super::spread::Spread;
use super::target::Target;
use crate::contestants::Contestant;

/// A figure with three significant digits; whole numbers as they are.
pub(crate) fn figure(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    match size {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        0.01.. => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// Cells under a head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table that has this head.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has not as many cells as the head.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.rows[0].len(), "a cell per column");
        self.rows.push(cells);
    }

    /// Whether there is nothing below the head.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            text += &format!("| {} |\n", cells.join(" | "));
            if index == 0 {
                text += &format!("|{}\n", "---|".repeat(row.len()));
            }
        }
        text
    }

    /// In columns.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let blanks = width - cell.chars().count() + 2;
                line += cell;
                line += &" ".repeat(blanks);
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// The targets, a row each; with the run that a row is from, where there are several.
pub(crate) fn targets(targets: &[Of<Target>], has_runs: bool) -> Table {
    let head = ["", "target", "wanted", "measured", "holds", "run", "of what"];
    let cells = |cells: [String; 7]| {
        let cells = cells.into_iter().enumerate();
        cells.filter(|(at, _)| has_runs || *at != 5).map(|(_, cell)| cell).collect::<Vec<_>>()
    };
    let mut table = Table { rows: vec![cells(head.map(str::to_owned))] };
    for Of { run, figure: target } in targets {
        table.row(cells([
            target.number.to_string(),
            target.what.clone(),
            target.wanted(),
            target.found(),
            target.said(),
            (run + 1).to_string(),
            target.note.clone(),
        ]));
    }
    table
}

/// The contestants side by side: a row each, and how many times floe's cost theirs is.
///
/// Of each feed there are figures of one run alone, else a ratio would be between two; the head says of
/// which, where there are several.
///
/// # Panics
/// If there are figures of several runs of a feed.
pub(crate) fn side_by_side(of_runs: &[Of<Measurement>], has_runs: bool) -> Table {
    let feeds = [Feed::SingleFlood, Feed::PackedFlood, Feed::Light];
    let heads = ["one line a datagram, flood", "46 lines a datagram, flood", "50,000 datagrams/s"];
    let mut rows = vec![vec![String::new()]];
    for (feed, head) in feeds.into_iter().zip(heads) {
        let mut runs = of_runs.iter().filter(|each| each.figure.feed == feed.name());
        let first = runs.next().map(|each| each.run);
        assert!(runs.all(|each| Some(each.run) == first), "figures of one run of {}", feed.name());
        rows[0].push(match first {
            Some(run) if has_runs => format!("{head}, run {}", run + 1),
            _ => head.to_owned(),
        });
    }
    rows[0].push("cost against floe's: one line / 46 lines / light".to_owned());
    let mut table = Table { rows };
    let measurements: Vec<Measurement> = of_runs.iter().map(|each| each.figure.clone()).collect();
    let measurements = measurements.as_slice();
    for contestant in Contestant::all() {
        let cost = |feed| line_costs(measurements, feed, contestant);
        if feeds.iter().all(|feed| cost(*feed).is_none()) {
            continue;
        }
        let mut cells = vec![contestant.name().to_owned()];
        cells.extend(feeds.map(|feed| cell(measurements, feed, contestant)));
        let floe = Contestant::Floe(crate::contestants::floe::Ingest::IoUring);
        let times = feeds.map(|feed| {
            let own = line_costs(measurements, feed, floe);
            match (cost(feed), own) {
                (Some(cost), Some(own)) => figure(cost.median / own.median),
                _ => "–".to_owned(),
            }
        });
        cells.push(times.join(" / "));
        table.row(cells);
    }
    table
}

/// CPU time of all threads per line.
fn line_costs(measurements: &[Measurement], feed: Feed, contestant: Contestant) -> Option<Spread> {
    let costs = figures(measurements, feed, contestant, Measurement::line_ns_of_all);
    Spread::of(costs.into_iter().map(|(_, cost)| cost))
}

/// Rate taken in, cost and loss: medians, and the spread of the cost.
fn cell(measurements: &[Measurement], feed: Feed, contestant: Contestant) -> String {
    let median = |of: fn(&Measurement) -> f64| {
        let values = figures(measurements, feed, contestant, of);
        Spread::of(values.into_iter().map(|(_, value)| value)).map_or(f64::NAN, |each| each.median)
    };
    let Some(cost) = line_costs(measurements, feed, contestant) else { return "–".to_owned() };
    format!(
        "{} M lines/s, {} ns ({}–{}), {} % lost",
        figure(median(Measurement::lines_per_s) / 1e6),
        figure(cost.median),
        figure(cost.least),
        figure(cost.most),
        figure(100.0 * median(Measurement::loss)),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::compare::spread::Spread;
    use crate::compare::target::Bound;

    pub(crate) fn measured(contestant: &str, feed: Feed, round: u32, cpu_ns: u64) -> Measurement {
        Measurement {
            contestant: contestant.to_owned(),
            feed: feed.name().to_owned(),
            round,
            is_segmented: false,
            datagrams_sent: 1_000,
            lines_sent: 1_000,
            datagrams_lost: 0,
            sending_ns: 1_000_000,
            sender_delay_ns: 0,
            reading_ns: 1_000_000,
            worker_cpu_ns: cpu_ns,
            all_cpu_ns: cpu_ns,
        }
    }

    #[test]
    fn figures_have_three_digits_and_whole_numbers_none_behind_the_point() {
        let values = [0.0, 30.0, 20_000_000.0, 1.1, 0.1234, 56.789, 1_234.5, 0.002, 5.0];
        let texts = values.map(figure);
        let expected = ["0", "30", "20000000", "1.10", "0.123", "56.8", "1234", "0.0020", "5"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["a", "long head"]);
        table.row(vec!["wider".to_owned(), "µ|x".to_owned()]);
        assert_eq!(table.text(), "a      long head\nwider  µ|x\n");
        assert_eq!(table.markdown(), "| a | long head |\n|---|---|\n| wider | µ\\|x |\n");
    }

    #[test]
    fn losses_stand_in_the_table_as_wins_do() {
        let measurements = [
            measured("floe", Feed::SingleFlood, 0, 500_000),
            measured("bare-sleep", Feed::SingleFlood, 0, 400_000),
            measured("reference", Feed::SingleFlood, 0, 5_000_000),
        ];
        let measurements = measurements.map(|figure| Of { run: 1, figure });
        let text = side_by_side(&measurements, false).text();
        assert!(text.contains("0.800 / – / –") && text.contains("10 / – / –"), "{text}");
        assert!(!text.contains("run"), "{text}");
        let text = targets(&[missed(0)], false).markdown();
        assert!(text.contains("| **no**, 1.18 × the limit |  |"), "{text}");
    }

    fn missed(run: usize) -> Of<Target> {
        let spread = Spread::of([1.3]);
        Of { run, figure: Target::new(1, "cost", (Bound::AtMost(1.1), "×"), spread) }
    }

    #[test]
    fn figures_of_several_runs_say_which() {
        let text = targets(&[missed(0), missed(1)], true).markdown();
        for row in ["| holds | run | of what |", "the limit | 1 |  |", "the limit | 2 |  |"] {
            assert!(text.contains(row), "{row} in {text}");
        }
        let figure = measured("floe", Feed::Light, 0, 500_000);
        let text = side_by_side(&[Of { run: 1, figure }], true).markdown();
        assert!(text.contains("| 50,000 datagrams/s, run 2 |"), "{text}");
        assert!(text.contains("| one line a datagram, flood |"), "{text}");
    }

    #[test]
    #[should_panic(expected = "figures of one run of light")]
    fn figures_of_two_runs_make_no_ratio() {
        let of = |run, contestant| Of { run, figure: measured(contestant, Feed::Light, 0, 1) };
        side_by_side(&[of(0, "floe"), of(1, "bare-sleep")], true);
    }
}
