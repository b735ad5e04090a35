//! Plots as SVG: axes with round ticks, lines, and nothing that has to be loaded.
//!
//! Colours are left to the page's style, by class, so that a plot is readable on light and on dark ground.

use std::fmt::Write;

/// A line of a plot.
#[derive(Debug, Clone, Default)]
pub struct Line {
    pub label: String,
    /// The style's class: `a` to `h`, and `old` besides for an earlier run.
    pub class: String,
    pub points: Vec<(f64, f64)>,
    /// Dots where it was measured, with these words.
    pub marks: Vec<String>,
}

/// How an axis counts.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// From zero.
    Linear,
    Log,
    /// At these places, with these words.
    Fixed(Vec<(f64, String)>),
}

#[derive(Debug, Clone)]
pub struct Plot {
    pub title: String,
    pub x: (String, Scale),
    pub y: (String, Scale),
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 32.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 50.0;

/// One axis: what it covers, and where its ticks are.
struct Axis {
    log: bool,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    fn new(scale: &Scale, values: impl Iterator<Item = f64> + Clone) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let highest = finite.clone().fold(f64::MIN, f64::max);
        match scale {
            Scale::Fixed(ticks) => {
                let from = ticks.iter().map(|tick| tick.0).fold(f64::MAX, f64::min);
                let to = ticks.iter().map(|tick| tick.0).fold(highest, f64::max);
                Self { log: false, from, to, ticks: ticks.clone() }
            }
            Scale::Linear => {
                let step = round_step(highest.max(1e-9) / 5.0);
                let count = (highest.max(0.0) / step).ceil().max(1.0);
                let ticks = (0..=10).map(f64::from).take_while(|at| *at <= count).map(|at| at * step);
                Self {
                    log: false,
                    from: 0.0,
                    to: count * step,
                    ticks: ticks.map(|at| (at, number(at))).collect(),
                }
            }
            Scale::Log => {
                let positive = finite.filter(|value| *value > 0.0);
                let lowest = positive.fold(f64::MAX, f64::min).min(highest.max(1e-6));
                let lowest = if lowest > 0.0 { lowest } else { 1.0 };
                let (from, to) = (lowest.log10().floor(), highest.max(lowest * 1.01).log10().ceil());
                let decades = (0..=20).map(|at| from + f64::from(at)).take_while(|at| *at <= to);
                let ticks = decades.map(|at| 10_f64.powf(at)).map(|at| (at, number(at))).collect();
                Self { log: true, from, to, ticks }
            }
        }
    }

    /// Where a value is, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1e-9).log10() } else { value };
        ((value - self.from) / (self.to - self.from).max(1e-12)).clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, not below.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * power)
        .into_iter()
        .find(|step| *step >= least * 0.999)
        .unwrap_or(power)
}

/// A tick's value in few letters.
pub fn number(value: f64) -> String {
    let (by, unit) = match value.abs() {
        value if value >= 1e6 => (1e6, "M"),
        value if value >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let text = format!("{:.3}", value / by);
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Text as it may stand in a page.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Plot {
    /// The plot as a figure of a page; nothing if there is nothing to show.
    pub fn figure(&self) -> String {
        if self.lines.iter().all(|line| line.points.is_empty()) {
            return String::new();
        }
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::new(&self.x.1, points().map(|point| point.0));
        let y = Axis::new(&self.y.1, points().map(|point| point.1));
        let mut svg = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut svg, &x, &y);
        format!("<figure><figcaption>{}</figcaption>{}{svg}</figure>\n", escape(&self.title), self.legend())
    }

    fn legend(&self) -> String {
        let named = self.lines.iter().filter(|line| !line.label.is_empty() && !line.points.is_empty());
        let entries: String = named
            .map(|line| format!("<span class=\"{}\"><i></i>{}</span>", line.class, escape(&line.label)))
            .collect();
        format!("<div class=\"legend\">{entries}</div>")
    }

    fn write(&self, svg: &mut String, x: &Axis, y: &Axis) -> std::fmt::Result {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let across = |value: f64| LEFT + x.place(value) * (right - LEFT);
        let up = |value: f64| bottom - y.place(value) * (bottom - TOP);
        write!(
            svg,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        )?;
        for (value, label) in &y.ticks {
            let at = up(*value);
            write!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>")?;
            let (left, label) = (LEFT - 8.0, escape(label));
            write!(svg, "<text x=\"{left}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", at + 4.0)?;
        }
        for (value, label) in &x.ticks {
            let at = across(*value);
            write!(svg, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>")?;
            let (below, label) = (bottom + 18.0, escape(label));
            write!(svg, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{label}</text>")?;
        }
        write!(svg, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>")?;
        let (middle, below) = (f64::midpoint(LEFT, right), HEIGHT - 8.0);
        write!(
            svg,
            "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{}</text>",
            escape(&self.x.0)
        )?;
        let height = f64::midpoint(TOP, bottom);
        let name = escape(&self.y.0);
        write!(
            svg,
            "<text transform=\"translate(14 {height}) rotate(-90)\" text-anchor=\"middle\">{name}</text>"
        )?;
        for line in &self.lines {
            let mut path = String::new();
            for (at, point) in line.points.iter().enumerate() {
                let letter = if at == 0 { 'M' } else { 'L' };
                write!(path, "{letter}{:.1} {:.1}", across(point.0), up(point.1))?;
            }
            write!(svg, "<path class=\"line {}\" d=\"{path}\"/>", line.class)?;
            for (point, words) in line.points.iter().zip(&line.marks) {
                let (at, height, words) = (across(point.0), up(point.1), escape(words));
                write!(
                    svg,
                    "<circle class=\"{}\" cx=\"{at:.1}\" cy=\"{height:.1}\" r=\"3.5\"><title>{words}</title></circle>",
                    line.class
                )?;
            }
        }
        svg.write_str("</svg>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(scale: &Scale, values: &[f64], expect: Expect) {
        let axis = Axis::new(scale, values.iter().copied());
        let ticks: Vec<_> =
            axis.ticks.iter().map(|(at, label)| format!("{label} at {:.2}", axis.place(*at))).collect();
        expect.assert_eq(&ticks.join(", "));
    }

    #[test]
    fn ticks_are_round() {
        check(
            &Scale::Linear,
            &[1.0, 43.0],
            expect!["0 at 0.00, 10 at 0.20, 20 at 0.40, 30 at 0.60, 40 at 0.80, 50 at 1.00"],
        );
        check(&Scale::Linear, &[0.0], expect!["0 at 0.00, 0 at 1.00"]);
        check(&Scale::Linear, &[123_456.0], expect!["0 at 0.00, 50k at 0.33, 100k at 0.67, 150k at 1.00"]);
        check(
            &Scale::Log,
            &[0.3, 270.0],
            expect!["0.1 at 0.00, 1 at 0.25, 10 at 0.50, 100 at 0.75, 1000 at 1.00"],
        );
        check(&Scale::Log, &[0.0, 5.0], expect!["1 at 0.00, 10 at 1.00"]);
        check(
            &Scale::Fixed(vec![(0.0, "p50".into()), (2.0, "p99".into())]),
            &[1.0],
            expect!["p50 at 0.00, p99 at 1.00"],
        );
    }

    #[test]
    fn numbers_are_short() {
        let told = [0.0, 0.001, 2.5, 9999.0, 12_000.0, 3_400_000.0].map(number);
        assert_eq!(told, ["0", "0.001", "2.5", "9999", "12k", "3.4M"]);
    }

    #[test]
    fn a_plot_shows_its_points_inside_its_axes() {
        let line = Line {
            label: "a < b".into(),
            class: "a".into(),
            points: vec![(0.0, 0.0), (10.0, 5.0)],
            marks: vec![String::new(), "the \"last\"".into()],
        };
        let axis = |name: &str| (name.to_owned(), Scale::Linear);
        let plot = Plot { title: "t".into(), x: axis("x"), y: axis("y"), lines: vec![line] };
        let figure = plot.figure();
        assert!(figure.contains("d=\"M64.0 250.0L688.0 16.0\""), "{figure}");
        assert!(figure.contains("a &lt; b") && figure.contains("the &quot;last&quot;"), "{figure}");
        assert_eq!(Plot { lines: vec![], ..plot }.figure(), "");
    }
}
