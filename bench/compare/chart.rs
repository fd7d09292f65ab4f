//! The contestants side by side as a picture: CPU time per line, all threads, a bar each.
//!
//! The axis is logarithmic, for the reference daemon is a hundred times a bare loop, and says so: the
//! lengths of bars are no ratios. A thin line over the end of a bar spans the rounds.

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::feeds::{Feed, figures};
use super::measurement::Measurement;
use super::spread::Spread;
use super::table::figure;
use crate::contestants::Contestant;

const WIDTH: u32 = 900;
const HEAD_HEIGHT: u32 = 54;
const BAR_HEIGHT: u32 = 26;
const PANEL_FRAME: u32 = 84;

const FLOE: RGBColor = RGBColor(120, 180, 220);
const OTHERS: RGBColor = RGBColor(205, 205, 205);

/// One bar.
struct Bar {
    name: &'static str,
    cost: Spread,
}

/// The picture as SVG, with two lines above it; none when nothing was measured side by side.
///
/// # Errors
/// When it cannot be drawn.
pub(crate) fn svg(
    measurements: &[Measurement],
    captions: [&str; 2],
) -> anyhow::Result<Option<String>> {
    let feeds = [
        (Feed::SingleFlood, "one line per datagram, as fast as the sender can"),
        (Feed::PackedFlood, "46 lines per datagram, as fast as the sender can"),
        (Feed::Light, "50,000 single-line datagrams per second"),
    ];
    let panels = feeds.map(|(feed, title)| (bars(measurements, feed), title));
    let panels: Vec<_> = panels.into_iter().filter(|(bars, _)| !bars.is_empty()).collect();
    if panels.is_empty() {
        return Ok(None);
    }
    let height = |bars: &[Bar]| {
        PANEL_FRAME + BAR_HEIGHT * u32::try_from(bars.len()).expect("a dozen contestants")
    };
    let total: u32 = HEAD_HEIGHT + panels.iter().map(|(bars, _)| height(bars)).sum::<u32>();
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, total)).into_drawing_area();
        root.fill(&WHITE).map_err(refused)?;
        let (head, mut rest) = root.split_vertically(HEAD_HEIGHT);
        let style = ("sans-serif", 13).into_font();
        let style = style.into_text_style(&head);
        for (caption, y) in captions.into_iter().zip([14, 32]) {
            head.draw_text(caption, &style, (12, y)).map_err(refused)?;
        }
        for (bars, title) in &panels {
            let (area, below) = rest.split_vertically(height(bars));
            panel(&area, bars, title)?;
            rest = below;
        }
        root.present().map_err(refused)?;
    }
    Ok(Some(text))
}

fn bars(measurements: &[Measurement], feed: Feed) -> Vec<Bar> {
    let bar = |contestant: Contestant| {
        let costs = figures(measurements, feed, contestant, Measurement::line_ns_of_all);
        let cost = Spread::of(costs.into_iter().map(|(_, cost)| cost))?;
        (0.0 < cost.least).then_some(Bar { name: contestant.name(), cost })
    };
    Contestant::all().into_iter().filter_map(bar).collect()
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    bars: &[Bar],
    title: &str,
) -> anyhow::Result<()> {
    let least = bars.iter().map(|bar| bar.cost.least).fold(f64::MAX, f64::min) / 3.0;
    let most = bars.iter().map(|bar| bar.cost.most).fold(0.0, f64::max) * 1.3;
    let rows = u32::try_from(bars.len()).expect("a dozen contestants");
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(36)
        .build_cartesian_2d((least..most).log_scale(), 0.0..f64::from(rows))
        .map_err(refused)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_label_formatter(&label)
        .x_desc("ns of CPU per line, all threads; logarithmic")
        .draw()
        .map_err(refused)?;
    for (row, bar) in (0..rows).rev().zip(bars) {
        let (low, cost) = (f64::from(row), bar.cost);
        let colour = if bar.name.starts_with("floe") { FLOE } else { OTHERS };
        let body = [(least, low + 0.12), (cost.median, low + 0.88)];
        let span = vec![(cost.least, low + 0.5), (cost.most, low + 0.5)];
        let words = format!(
            "{}  {} ns ({}–{})",
            bar.name,
            figure(cost.median),
            figure(cost.least),
            figure(cost.most)
        );
        let style = TextStyle::from(("sans-serif", 13)).pos(Pos::new(HPos::Left, VPos::Center));
        let plot = chart.plotting_area();
        plot.draw(&Rectangle::new(body, colour.filled())).map_err(refused)?;
        plot.draw(&PathElement::new(span, BLACK.stroke_width(1))).map_err(refused)?;
        plot.draw(&Text::new(words, (least * 1.06, low + 0.5), style)).map_err(refused)?;
    }
    Ok(())
}

/// What stands at a line of the axis: nothing where the next ones of a decade are too near.
fn label(value: &f64) -> String {
    let first = value / 10_f64.powf(value.log10().floor());
    let has_room = [1.0, 2.0, 3.0, 5.0].iter().any(|digit| (first - digit).abs() < 0.01);
    if has_room { figure(*value) } else { String::new() }
}

fn refused(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw the chart: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::table;

    fn measured(contestant: &str, feed: Feed, cpu_ns: u64) -> Measurement {
        table::tests::measured(contestant, feed, 0, cpu_ns)
    }

    /// Every element that is opened is closed, in order; returns how many there were.
    fn elements(svg: &str) -> usize {
        let (mut open, mut count) = (Vec::new(), 0);
        for tag in svg.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').expect("a tag ends");
            assert!(!text.contains('>'), "text is escaped: {text}");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
            if tag.starts_with('?') || tag.starts_with('!') {
            } else if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name.to_owned()));
            } else {
                assert_eq!(tag.matches('"').count() % 2, 0, "quotes pair: {tag}");
                count += 1;
                if !tag.ends_with('/') {
                    open.push(name.to_owned());
                }
            }
        }
        assert!(open.is_empty(), "{open:?}");
        count
    }

    #[test]
    fn chart_is_well_formed_and_names_every_contestant() {
        let measurements = [
            measured("floe", Feed::SingleFlood, 600_000),
            measured("reference", Feed::SingleFlood, 4_600_000),
            measured("bare-sleep", Feed::Light, 700_000),
        ];
        let svg = svg(&measurements, ["a <machine> & \"more\"", "a day"]).unwrap().unwrap();
        assert!(svg.starts_with("<svg"), "{svg}");
        assert!(20 < elements(&svg));
        for text in ["floe  600 ns", "reference  4600 ns", "bare-sleep  700 ns"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert!(svg.contains("&lt;machine&gt; &amp;") && svg.contains("a day"), "{svg}");
        assert!(svg.contains("logarithmic"), "{svg}");
    }

    #[test]
    fn lines_of_an_axis_that_are_near_each_other_have_no_figures() {
        let values = [0.2, 1.0, 4.0, 10.0, 30.0, 90.0, 500.0, 7_000.0, 10_000.0];
        let expected = ["0.200", "1", "", "10", "30", "", "500", "", "10000"];
        assert_eq!(values.map(|value| label(&value)), expected);
    }

    #[test]
    fn nothing_measured_is_no_chart() {
        assert_eq!(svg(&[], ["", ""]).unwrap(), None);
        let other = [measured("floe", Feed::PackedTwentyMillion, 1)];
        assert_eq!(svg(&other, ["", ""]).unwrap(), None);
    }
}
