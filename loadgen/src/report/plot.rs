//! Plots as SVG that reads on light and on dark.
//!
//! Used by `page`. Every plot is drawn in a handful of colours that are nearly black and differ in one
//! digit; the page's style sheet gives each its colour for light and for dark. Without the sheet a plot
//! is still there, black on nothing.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Size in pixels; the page scales it to its width.
const SIZE: (u32, u32) = (760, 260);

/// Colours of axes and grid, which the sheet replaces.
const INK: RGBColor = RGBColor(0, 0, 1);
const GRID: RGBColor = RGBColor(0, 0, 2);

/// Colours of the curves, which the sheet replaces.
const CURVES: [RGBColor; 4] =
    [RGBColor(1, 0, 0), RGBColor(2, 0, 0), RGBColor(3, 0, 0), RGBColor(4, 0, 0)];

/// Rules for the colours above: `--ink`, `--grid` and `--curve-1` to `--curve-4` are the page's.
pub(super) const STYLE: &str = "\
svg{width:100%;height:auto;max-width:60em}
svg text{fill:var(--ink)}
svg [stroke=\"#000001\"]{stroke:var(--ink)}
svg [stroke=\"#000002\"]{stroke:var(--grid)}
svg [stroke=\"#010000\"]{stroke:var(--curve-1)}
svg [stroke=\"#020000\"]{stroke:var(--curve-2)}
svg [stroke=\"#030000\"]{stroke:var(--curve-3)}
svg [stroke=\"#040000\"]{stroke:var(--curve-4)}
svg [fill=\"#010000\"]{fill:var(--curve-1)}
svg [fill=\"#020000\"]{fill:var(--curve-2)}
svg [fill=\"#030000\"]{fill:var(--curve-3)}
svg [fill=\"#040000\"]{fill:var(--curve-4)}
";

/// Points with a name.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Dots instead of a line.
    pub(super) is_dots: bool,
}

/// Curves over common axes.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    pub(super) title: &'static str,
    /// What is measured along the axes, with units.
    pub(super) across: &'static str,
    pub(super) up: &'static str,
    /// Four at most.
    pub(super) curves: Vec<Curve>,
}

impl Plot {
    /// True where there is something to see.
    pub(super) fn has_points(&self) -> bool {
        self.curves.iter().any(|curve| 1 < curve.points.len())
    }

    /// Largest value along one axis; 1 where all are nothing.
    fn top(&self, value: impl Fn(&(f64, f64)) -> f64) -> f64 {
        let points = self.curves.iter().flat_map(|curve| &curve.points);
        let top = points.map(value).filter(|value| value.is_finite()).fold(0.0, f64::max);
        if 0.0 < top { top } else { 1.0 }
    }

    /// The plot as an `svg` element.
    pub(super) fn to_svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw(SVGBackend::with_string(&mut svg, SIZE))
            .map_err(|error| anyhow!("cannot draw {:?}: {error}", self.title))?;
        Ok(svg)
    }

    fn draw(&self, backend: SVGBackend<'_>) -> Result<(), Box<dyn std::error::Error + '_>> {
        let area = backend.into_drawing_area();
        // Room above the curves, for the legend where there is one.
        let room = if 1 < self.curves.len() { 1.4 } else { 1.08 };
        let (width, height) = (self.top(|point| point.0), self.top(|point| point.1) * room);
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(38)
            .y_label_area_size(74)
            .build_cartesian_2d(0.0..width, 0.0..height)
            .map_err(|error| error.to_string())?;
        let text = ("sans-serif", 13).into_font().color(&INK);
        chart
            .configure_mesh()
            .x_desc(self.across)
            .y_desc(self.up)
            .axis_style(INK)
            .label_style(text.clone())
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .draw()
            .map_err(|error| error.to_string())?;
        for (curve, color) in self.curves.iter().zip(CURVES) {
            let points = curve.points.iter().copied();
            let drawn = if curve.is_dots {
                chart.draw_series(points.map(|at| Circle::new(at, 4, color.filled())))
            } else {
                chart.draw_series(LineSeries::new(points, color.stroke_width(2)))
            };
            drawn.map_err(|error| error.to_string())?.label(&curve.name).legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 14, y)], color.stroke_width(2))
            });
        }
        if 1 < self.curves.len() {
            chart
                .configure_series_labels()
                .label_font(text)
                .position(SeriesLabelPosition::UpperRight)
                .draw()
                .map_err(|error| error.to_string())?;
        }
        area.present().map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// A number for an axis: `1.5M`, `20k`, `0.25`.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if 1e9 <= size => (value / 1e9, "G"),
        size if 1e6 <= size => (value / 1e6, "M"),
        size if 1e3 <= size => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = format!("{value:.3}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>) -> Plot {
        let curve =
            |is_dots| Curve { name: "sent <&>".to_owned(), points: points.clone(), is_dots };
        Plot { title: "rate", across: "s", up: "lines/s", curves: vec![curve(false), curve(true)] }
    }

    #[test]
    fn a_plot_has_its_curves_in_the_colours_of_the_sheet() {
        let svg = plot(vec![(0.0, 0.0), (1.0, 2_000_000.0)]).to_svg().unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        for color in ["#010000", "#020000", "#000001", "#000002"] {
            assert!(svg.contains(color), "{color}");
            assert!(STYLE.contains(color), "{color}");
        }
        assert!(svg.contains("2M") && svg.contains("lines/s"), "{svg}");
        assert!(!svg.contains("<&>"), "names are escaped");
    }

    #[test]
    fn a_plot_of_nothing_is_drawn_too() {
        for points in [vec![], vec![(0.0, 0.0)], vec![(0.0, 0.0), (0.0, 0.0)]] {
            assert!(plot(points).to_svg().unwrap().contains("<svg "));
        }
        assert!(!plot(vec![(1.0, 1.0)]).has_points());
    }

    #[test]
    fn numbers_on_an_axis_are_short() {
        for (value, shown) in
            [(0.0, "0"), (0.25, "0.25"), (20_000.0, "20k"), (1.5e6, "1.5M"), (2e9, "2G")]
        {
            assert_eq!(short(value), shown);
        }
    }
}
