//! The report as one HTML page: the text, and plots of how it came about.
//!
//! The page is one file that asks for nothing: style and plots stand in it, there is no script. It
//! follows the reader's choice of light or dark.

use std::collections::BTreeMap;

use anyhow::Result;

use super::origin::Origin;
use super::plot::{Curve, Plot, STYLE};
use super::rounds::SearchReport;
use super::{Report, float, milliseconds};
use crate::search::Verdict;
use crate::watch::Moment;

/// Threads with a curve of their own: those that used most.
const THREADS_MAX: usize = 3;

const COLORS: &str = "\
:root{color-scheme:light dark;--paper:#fff;--ink:#222;--grid:#ddd;
--curve-1:#0068b5;--curve-2:#c4540a;--curve-3:#2a7d32;--curve-4:#8a3ffc}
@media(prefers-color-scheme:dark){:root{--paper:#16181c;--ink:#ddd;--grid:#3a3d44;
--curve-1:#6ab7ff;--curve-2:#ffb070;--curve-3:#7fd18b;--curve-4:#c8a2ff}}
body{background:var(--paper);color:var(--ink);font:15px/1.5 sans-serif;max-width:62em;margin:2em auto;
padding:0 1em}
pre{overflow-x:auto;border:1px solid var(--grid);padding:.8em}
h2{margin-bottom:.2em}p{margin:.2em 0}
";

/// The page of one run.
pub(crate) fn of_run(report: &Report<'_>) -> Result<String> {
    let mut text = Vec::new();
    report.write_text(&mut text)?;
    let mut plots = vec![
        (
            rate(report),
            "Lines per second between two looks, and what was asked for. A dip followed by a peak is a \
             stall that was made up for.",
        ),
        (
            lag(report.moments),
            "How long after its due time the latest datagram left, the worst between two looks.",
        ),
    ];
    // Without figures a plot has no points, and is left out.
    plots.push((
        cores(report.moments),
        "CPU time of the daemon per second: all of its threads, and those that used most meanwhile.",
    ));
    plots.push((drops(report.moments), "What its UDP sockets dropped."));
    plots
        .push((queues(report.moments), "What waited in its UDP sockets, as the kernel counts it."));
    if let Some(latency) = report.latency {
        let points = (0..=100u8).map(|percent| {
            let quantile = f64::from(percent) / 100.0;
            (f64::from(percent), milliseconds(latency.all.value_at_quantile(quantile)))
        });
        plots.push((
            Plot {
                title: "Latency from datagram to Graphite",
                across: "percent of the probes that were at least as fast",
                up: "ms",
                curves: vec![line("latency", points.collect())],
            },
            "With the wait for the flush: one interval long from the fastest to the slowest by nature.",
        ));
    }
    let title = format!("loadgen: {}", report.plan.target);
    page(&title, &String::from_utf8_lossy(&text), report.origin, &plots)
}

/// The page of one search.
pub(crate) fn of_search(report: &SearchReport<'_>) -> Result<String> {
    let mut text = Vec::new();
    report.write_text(&mut text)?;
    let trials = &report.found.trials;
    let dots = |verdict: Verdict| Curve {
        name: verdict.word().to_owned(),
        points: trials
            .iter()
            .filter(|trial| report.settings.verdict(trial) == verdict)
            .map(|trial| (float(trial.rate), trial.lost_percent))
            .collect(),
        is_dots: true,
    };
    let cpu = trials.iter().filter_map(|trial| Some((float(trial.rate), trial.cpu_ns_per_line?)));
    let plots = [
        (
            Plot {
                title: "Loss by rate",
                across: "lines/s asked for",
                up: "percent lost",
                curves: [Verdict::Held, Verdict::Lost, Verdict::NotReached].map(dots).into(),
            },
            "One dot per round.",
        ),
        (
            Plot {
                title: "CPU by rate",
                across: "lines/s asked for",
                up: "ns per line",
                curves: vec![Curve {
                    name: "CPU".to_owned(),
                    points: cpu.collect(),
                    is_dots: true,
                }],
            },
            "All threads of the daemon, per line that its sockets did not drop.",
        ),
    ];
    let title = format!("loadgen search: {}", report.target);
    page(&title, &String::from_utf8_lossy(&text), report.origin, &plots)
}

fn line(name: &str, points: Vec<(f64, f64)>) -> Curve {
    Curve { name: name.to_owned(), points, is_dots: false }
}

/// What `read` grew by between each moment and the one before, per second.
fn growth(moments: &[Moment], read: impl Fn(&Moment) -> Option<u64>) -> Vec<(f64, f64)> {
    let pairs = moments.iter().zip(moments.iter().skip(1));
    let point = |(before, after): (&Moment, &Moment)| {
        let seconds = (after.at - before.at).as_secs_f64();
        let grown = float(read(after)?.saturating_sub(read(before)?));
        (0.0 < seconds).then(|| (after.at.as_secs_f64(), grown / seconds))
    };
    pairs.filter_map(point).collect()
}

fn rate(report: &Report<'_>) -> Plot {
    let mut curves = vec![line("sent", growth(report.moments, |moment| Some(moment.lines)))];
    if let Some(offered) = report.round.offered {
        let end = report.moments.last().map_or(0.0, |moment| moment.at.as_secs_f64());
        curves.push(line("asked for", vec![(0.0, float(offered)), (end, float(offered))]));
    }
    Plot { title: "Rate", across: "seconds", up: "lines/s", curves }
}

fn lag(moments: &[Moment]) -> Plot {
    let points =
        moments.iter().map(|moment| (moment.at.as_secs_f64(), moment.lag.as_secs_f64() * 1e3));
    Plot { title: "Lag", across: "seconds", up: "ms", curves: vec![line("lag", points.collect())] }
}

fn cores(moments: &[Moment]) -> Plot {
    let cores =
        |points: Vec<(f64, f64)>| points.into_iter().map(|(at, ns)| (at, ns / 1e9)).collect();
    let all = growth(moments, |moment| moment.figures.as_ref().map(|figures| figures.cpu_ns()));
    let mut curves = vec![line("all threads", cores(all))];
    for (_, id, name) in used_most(moments).into_iter().take(THREADS_MAX) {
        let of_thread = growth(moments, |moment| {
            let threads = &moment.figures.as_ref()?.threads;
            threads.iter().find(|thread| thread.id == id).map(|thread| thread.cpu_ns)
        });
        curves.push(line(name, cores(of_thread)));
    }
    Plot { title: "CPU of the daemon", across: "seconds", up: "cores", curves }
}

/// CPU time, number and name of the threads, those first that used most since the first moment.
fn used_most(moments: &[Moment]) -> Vec<(u64, u32, &str)> {
    let mut figures = moments.iter().filter_map(|moment| moment.figures.as_ref());
    let Some(first) = figures.next() else { return Vec::new() };
    let before: BTreeMap<u32, u64> =
        first.threads.iter().map(|thread| (thread.id, thread.cpu_ns)).collect();
    let last = figures.next_back().unwrap_or(first);
    let used = last.threads.iter().map(|thread| {
        // A thread that was not there yet began at nothing.
        let before = before.get(&thread.id).copied().unwrap_or(0);
        (thread.cpu_ns.saturating_sub(before), thread.id, thread.name.as_str())
    });
    let mut used: Vec<(u64, u32, &str)> = used.collect();
    used.sort_unstable_by(|one, other| other.cmp(one));
    used
}

fn drops(moments: &[Moment]) -> Plot {
    let dropped = growth(moments, |moment| moment.figures.as_ref()?.drops());
    let curves = vec![line("dropped", dropped)];
    Plot { title: "Drops", across: "seconds", up: "datagrams/s", curves }
}

fn queues(moments: &[Moment]) -> Plot {
    let queue = moments.iter().filter_map(|moment| {
        let figures = moment.figures.as_ref()?;
        Some((moment.at.as_secs_f64(), float(figures.queue_bytes()?) / 1_024.0))
    });
    let curves = vec![line("waiting", queue.collect())];
    Plot { title: "Queues", across: "seconds", up: "KiB", curves }
}

fn page(title: &str, text: &str, origin: &Origin, plots: &[(Plot, &str)]) -> Result<String> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{0}</title>\n\
         <style>\n{COLORS}{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>\n<pre>{1}</pre>\n",
        escaped(title),
        escaped(text)
    );
    for (plot, words) in plots.iter().filter(|(plot, _)| plot.has_points()) {
        let svg = plot.to_svg()?;
        page.push_str(&format!("<h2>{}</h2>\n<p>{words}</p>\n{svg}\n", plot.title));
    }
    let origin = escaped(&origin.to_text());
    page.push_str(&format!("<h2>How to repeat it</h2>\n<pre>{origin}</pre>\n"));
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Figures, Thread, UdpSocket};
    use crate::report::origin::tests::origin;
    use std::time::Duration;

    fn moments() -> Vec<Moment> {
        let moment = |tenth: u64| Moment {
            at: Duration::from_millis(100 * tenth),
            lines: tenth * 50,
            lag: Duration::from_micros(tenth),
            figures: Some(Figures {
                threads: (1..=5)
                    .map(|id| Thread {
                        id,
                        name: format!("worker-{id}"),
                        cpu_ns: tenth * u64::from(id) * 1_000_000,
                        switches: [0; 2],
                    })
                    .collect(),
                ..Figures::default()
            }),
        };
        (0..=10).map(moment).collect()
    }

    #[test]
    fn a_rate_is_what_came_on_top_between_two_moments() {
        let points = growth(&moments(), |moment| Some(moment.lines));
        assert_eq!(points.len(), 10);
        assert!(points.iter().all(|(_, rate)| (rate - 500.0).abs() < 1e-6), "{points:?}");
    }

    #[test]
    fn the_threads_that_used_most_have_curves() {
        let plot = cores(&moments());
        let names: Vec<&str> = plot.curves.iter().map(|curve| curve.name.as_str()).collect();
        assert_eq!(names, ["all threads", "worker-5", "worker-4", "worker-3"]);
        assert!((plot.curves[1].points[0].1 - 0.05).abs() < 1e-9);
    }

    /// A thread that worked for an hour before the run and rests during it.
    #[test]
    fn what_a_thread_used_before_the_run_does_not_count() {
        let mut moments = moments();
        for moment in &mut moments {
            let threads = &mut moment.figures.as_mut().unwrap().threads;
            threads[0].cpu_ns = 3_600_000_000_000;
        }
        let plot = cores(&moments);
        let names: Vec<&str> = plot.curves.iter().map(|curve| curve.name.as_str()).collect();
        assert_eq!(names, ["all threads", "worker-5", "worker-4", "worker-3"]);
        // One that was started meanwhile has used all it has.
        moments[0].figures.as_mut().unwrap().threads.truncate(2);
        let most: Vec<u32> = used_most(&moments).into_iter().map(|(_, id, _)| id).collect();
        assert_eq!(most, [5, 4, 3, 2, 1]);
    }

    #[test]
    fn drops_and_queues_have_an_axis_each() {
        let mut moments = moments();
        for (number, moment) in (0..).zip(&mut moments) {
            let address = "127.0.0.1:8125".parse().unwrap();
            let (drops, queue_bytes) = (number * 3, 4_096);
            let socket = UdpSocket { inode: 9, address, queue_bytes, drops };
            moment.figures.as_mut().unwrap().sockets.push(socket);
        }
        let (drops, queues) = (drops(&moments), queues(&moments));
        assert_eq!((drops.up, drops.curves.len()), ("datagrams/s", 1));
        assert!((drops.curves[0].points[0].1 - 30.0).abs() < 1e-9);
        assert_eq!((queues.up, queues.curves.len()), ("KiB", 1));
        assert!((queues.curves[0].points[0].1 - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_page_is_whole_and_asks_for_nothing() {
        let plots = [(lag(&moments()), "words")];
        let page = page("a <b>", "1 < 2 & 3", &origin(&["--names", "77"]), &plots).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert!(page.contains("a &lt;b&gt;") && page.contains("1 &lt; 2 &amp; 3"));
        assert!(page.contains("2026-11-27T09:02:10Z") && page.contains("\nnames = 77\n"));
        assert!(page.contains("prefers-color-scheme:dark"));
        for outside in ["src=", "href=", "@import", "url(", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
