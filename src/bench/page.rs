//! A result as one page that needs nothing else: a table, and plots of each step and over all of them.

use super::plot::{Line, Plot, Scale, escape};
use super::report::{Report, SecondReport, Step};
use super::table::ms;

const STYLE: &str = include_str!("page.css");
/// Classes of the style; steps beyond begin again.
const COLOURS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// The page of a report, with an earlier one laid over it.
pub fn page(report: &Report, earlier: Option<&Report>) -> String {
    let target = &report.target;
    let transport = if target.tls { "TLS" } else { "plain" };
    let title = format!("{} at {} ({}, {transport})", target.model, target.address, target.kind);
    let mut body = format!("<h1>{}</h1>\n", escape(&title));
    if let Some(label) = &report.label {
        body += &format!("<p>{}</p>\n", escape(label));
    }
    let plan = &report.plan;
    body += &format!(
        "<p>{} s each after {} s of warm-up; client: thalweg {} with {} thread(s); <time data-seconds=\"{}\">{}</time></p>\n",
        plan.duration_s,
        plan.warm_up_s,
        escape(&report.version),
        plan.threads,
        report.date,
        day(report.date)
    );
    for line in super::table::summary(report, earlier) {
        body += &format!("<p><strong>{}</strong></p>\n", escape(&line));
    }
    body += &table(report, earlier);
    body += &format!(
        "<div class=\"plots\">{}{}</div>\n",
        percentiles(report, earlier),
        over_steps(report, earlier)
    );
    for step in &report.steps {
        let before =
            earlier.and_then(|earlier| earlier.steps.iter().find(|before| before.label == step.label));
        body += &format!("<h2>{}</h2>\n{}", escape(&step.label), remarks(step));
        body += &format!("<div class=\"plots\">{}</div>\n", over_time(step, before));
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(&title)
    )
}

fn remarks(step: &Step) -> String {
    let notes = super::table::notes(step);
    notes
        .iter()
        .map(|note| format!("<p class=\"bad\">{}</p>\n", escape(note.trim_start_matches(" !"))))
        .collect()
}

fn table(report: &Report, earlier: Option<&Report>) -> String {
    let heads = [
        "load",
        "right answers",
        "a second",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "errors",
        "lost",
        "batch",
        "queue ms",
        "CPU µs an answer",
        "server CPU",
        "client CPU",
    ];
    let heads: String = heads.iter().map(|head| format!("<th>{head}</th>")).collect();
    let rows = report.steps.iter().map(|step| row(step, ""));
    let old = earlier.into_iter().flat_map(|earlier| &earlier.steps).map(|step| row(step, "earlier: "));
    let rows: String = rows.chain(old).collect();
    format!(
        "<div class=\"scroll\"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>\n"
    )
}

fn row(step: &Step, what: &str) -> String {
    let Step { latency_ms: latency, requests, server, .. } = step;
    let optional = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.1}"));
    let percent = |value: f64| format!("{:.0} %", value * 100.0);
    let busy = step.client.busy.iter().copied().fold(0.0, f64::max);
    let cells = [
        format!("{what}{}", step.label),
        requests.succeeded.to_string(),
        format!("{:.0}", step.rate),
        ms(latency.p50),
        ms(latency.p90),
        ms(latency.p99),
        ms(latency.p999),
        ms(latency.max),
        requests.failures().to_string(),
        requests.lost.to_string(),
        optional(server.batch_size),
        server.queue_ms.map_or("–".to_owned(), ms),
        optional(server.cpu_per_answer_us),
        server.cpu.map_or("–".to_owned(), percent),
        percent(busy),
    ];
    let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
    format!("<tr>{cells}</tr>\n")
}

/// A step in a colour, or the same one earlier.
fn line(label: &str, colour: usize, old: bool, points: Vec<(f64, f64)>) -> Line {
    let class = COLOURS.get(colour % COLOURS.len()).copied().unwrap_or_default();
    let class = if old { format!("{class} old") } else { class.to_owned() };
    let label = match (label, old) {
        ("", true) => "earlier".to_owned(),
        ("", false) => "now".to_owned(),
        (label, true) => format!("{label}, earlier"),
        (label, false) => label.to_owned(),
    };
    Line { label, class, points, marks: Vec::new() }
}

fn both<'a>(
    report: &'a Report,
    earlier: Option<&'a Report>,
) -> impl Iterator<Item = (usize, bool, &'a Step)> {
    let now = report.steps.iter().enumerate().map(|(at, step)| (at, false, step));
    let old = move |(at, step): (usize, &'a Step)| {
        let before = earlier?.steps.iter().find(|before| before.label == step.label)?;
        Some((at, true, before))
    };
    now.chain(report.steps.iter().enumerate().filter_map(old))
}

/// Latency by percentile, on an axis on which each further nine has as much room.
fn percentiles(report: &Report, earlier: Option<&Report>) -> String {
    let nines = |quantile: f64| -(1.0 - quantile).max(1e-7).log10();
    let ticks = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"];
    let curve = |step: &Step| -> Vec<(f64, f64)> {
        let points = step.latency_ms.curve.iter().filter(|(quantile, _)| *quantile < 1.0);
        points.map(|(quantile, value)| (nines(*quantile), *value)).collect()
    };
    let lines: Vec<_> =
        both(report, earlier).map(|(at, old, step)| line(&step.label, at, old, curve(step))).collect();
    let last = lines.iter().flat_map(|line| &line.points).map(|point| point.0).fold(1.0, f64::max);
    let ticks = ticks.iter().enumerate().map(|(at, label)| (at as f64, (*label).to_owned()));
    let ticks = ticks.take_while(|(at, _)| *at <= last.ceil()).collect();
    Plot {
        title: "Latency by percentile".into(),
        x: ("part of the answers that came within it".into(), Scale::Fixed(ticks)),
        y: ("ms".into(), Scale::Log),
        lines,
    }
    .figure()
}

/// Throughput against latency: a dot for each step.
fn over_steps(report: &Report, earlier: Option<&Report>) -> String {
    if report.steps.len() < 2 {
        return String::new();
    }
    type Value = fn(&Step) -> f64;
    let quantiles: [(&str, Value); 2] =
        [("p50", |step| step.latency_ms.p50), ("p99", |step| step.latency_ms.p99)];
    let runs = [(false, Some(report)), (true, earlier)];
    let lines = runs.into_iter().filter_map(|(old, run)| Some((old, run?))).flat_map(|(old, run)| {
        quantiles.iter().enumerate().map(move |(colour, (name, value))| {
            let points = run.steps.iter().map(|step| (step.rate, value(step))).collect();
            let mut line = line(name, colour, old, points);
            line.marks = run.steps.iter().map(|step| step.label.clone()).collect();
            line
        })
    });
    Plot {
        title: "Throughput against latency".into(),
        x: ("right answers a second".into(), Scale::Linear),
        y: ("ms".into(), Scale::Log),
        lines: lines.collect(),
    }
    .figure()
}

/// A figure of a second, if there is one.
type Value = fn(&SecondReport) -> Option<f64>;

/// What is drawn second by second: a title, a unit, a scale, and a line for each value.
#[allow(clippy::type_complexity, reason = "it is said above what it is")]
const OVER_TIME: [(&str, &str, Scale, &[(&str, Value)]); 5] = [
    (
        "Answers in each second",
        "answers",
        Scale::Linear,
        &[
            ("right", |second| Some(second.answers as f64)),
            ("errors", |second| (second.failed > 0).then_some(second.failed as f64)),
        ],
    ),
    (
        "Latency of the answers of each second",
        "ms",
        Scale::Log,
        &[
            ("p50", |second| (second.answers > 0).then_some(second.p50_ms)),
            ("p99", |second| (second.answers > 0).then_some(second.p99_ms)),
            ("max", |second| (second.answers > 0).then_some(second.max_ms)),
        ],
    ),
    ("Rows of a batch", "mean", Scale::Linear, &[("", |second| second.server.batch_size)]),
    (
        "Time in the server's queue and in the model",
        "ms, mean",
        Scale::Linear,
        &[("queue", |second| second.server.queue_ms), ("model", |second| second.server.run_ms)],
    ),
    ("CPU time of the server", "cores", Scale::Linear, &[("", |second| second.server.cpu)]),
];

/// One step, second by second.
fn over_time(step: &Step, before: Option<&Step>) -> String {
    let figures = OVER_TIME.into_iter().map(|(title, unit, scale, values)| {
        let runs = [(false, Some(step)), (true, before)].into_iter();
        let lines = runs.filter_map(|(old, step)| Some((old, step?))).flat_map(|(old, step)| {
            values.iter().enumerate().map(move |(colour, (name, value))| {
                let points =
                    step.series.iter().filter_map(|second| Some((second.second as f64, value(second)?)));
                line(name, colour, old, points.collect())
            })
        });
        Plot {
            title: title.into(),
            x: ("seconds".into(), Scale::Linear),
            y: (unit.into(), scale),
            lines: lines.collect(),
        }
        .figure()
    });
    figures.collect()
}

/// The date of a number of seconds since 1970 (days to civil dates, by eras of 400 years).
fn day(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!(
        "{}-{month:02}-{day:02} {:02}:{:02} UTC",
        year_of_era + era * 400 + next,
        seconds / 3600 % 24,
        seconds / 60 % 60
    )
}
