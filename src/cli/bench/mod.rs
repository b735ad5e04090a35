//! `thalweg bench`: flags to a plan, and a report to the screen and to files.

#[cfg(test)]
mod tests;
mod values;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use values::{Location, duration, location, shape};

use super::Failure;
use crate::bench::{
    self, Address, Check, Form, Goal, Load, Metering, Pace, Payload, Plan, Progress, Reference, Report,
    Sought, Target, Times, Trust,
};
use crate::clock::Clock;

/// Put load on a server, and tell how long its answers take and whether all of them are right
///
/// Exit code 0 if every request had its right answer. docs/BENCH.md explains every number.
#[derive(Args)]
pub struct Bench {
    /// The server: ws:// or http://, wss:// or https:// for TLS; port 8080 unless it says otherwise
    #[arg(default_value = "ws://127.0.0.1:8080")]
    url: String,
    /// The model to ask
    #[arg(long, short)]
    model: String,
    /// Its version; if left out, the highest
    #[arg(long, value_name = "VERSION")]
    model_version: Option<String>,
    /// What is asked: a WebSocket of requests, HTTP requests, or a stream (of a signal in real time, or of messages)
    #[arg(long, value_enum, default_value = "infer")]
    target: Kind,
    /// How requests carry tensors
    #[arg(long, value_enum, default_value = "binary")]
    form: Shape,
    /// Connections, or streams; several numbers are several steps
    #[arg(long, short, value_delimiter = ',', default_value = "64", value_name = "N")]
    connections: Vec<usize>,
    /// Requests that a connection has unanswered (closed loop), or may have (open loop, 128 unless it is given). With it
    /// a stream of a signal is no live one: it sends as a recording is sent, as fast as it is answered
    #[arg(long, short, value_delimiter = ',', value_name = "N")]
    depth: Vec<usize>,
    /// Requests a second in all, each at its own time (open loop); several numbers are several steps
    #[arg(long, short, value_delimiter = ',', value_name = "N")]
    rate: Vec<f64>,
    /// Requests of --rate come at random times, as those of people who know nothing of each other
    #[arg(long, requires = "rate")]
    poisson: bool,
    /// Streams send at the same moment, rather than spread over the time between two windows
    #[arg(long)]
    at_once: bool,
    /// Find the most of it for which --percentile stays --below, beginning with the first value given
    #[arg(long, value_enum, requires = "below")]
    search: Option<Search>,
    /// The bound of a search
    #[arg(long, value_parser = duration, value_name = "TIME")]
    below: Option<Duration>,
    /// Which latencies a search looks at
    #[arg(long, default_value_t = 99.0, value_name = "PERCENT")]
    percentile: f64,
    /// How near a search comes, in per cent of its answer
    #[arg(long, default_value_t = 2.0, value_name = "PERCENT")]
    precision: f64,
    /// How long each step is measured: 10s, 500ms, 2m
    #[arg(long, short = 't', default_value = "10s", value_parser = duration, value_name = "TIME")]
    duration: Duration,
    /// Load before that, which is not measured
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "TIME")]
    warm_up: Duration,
    /// How long answers are waited for behind the end; later ones are lost
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    drain: Duration,
    /// Threads of the client
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: usize,
    /// What requests carry: files with a request in JSON each, a WAV recording, or messages of a stream
    #[arg(long, short, value_name = "FILE")]
    payload: Vec<PathBuf>,
    /// Different requests to make, if there are no files
    #[arg(long, default_value_t = 8, value_name = "N")]
    payloads: usize,
    /// Shape of an input that is made, where the model leaves it open: NAME=1,16
    #[arg(long, value_parser = shape, value_name = "NAME=SIZES")]
    shape: Vec<(String, Vec<usize>)>,
    /// Chooses what is made and when requests of --poisson come; the same seed does the same again
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hold every answer against a recorded one; without a FILE against what the server says before the load
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "FILE")]
    check: Option<Option<PathBuf>>,
    /// Write down what the server says before the load, for --check=FILE
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    record: Option<PathBuf>,
    /// By how much numbers of answers may differ from the recorded ones
    #[arg(long, default_value_t = 0.0, value_name = "NUMBER")]
    tolerance: f64,
    /// A header of every request and handshake, such as 'X-Api-Key: KEY'; repeat for more
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Certificates in PEM to trust, in place of the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Take any certificate
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Where the server's metrics are, if not at /metrics of its address
    #[arg(long, value_name = "URL")]
    metrics_url: Option<String>,
    /// The server's process, if it is on this machine: tells its CPU time
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// What the run is called in results
    #[arg(long)]
    label: Option<String>,
    /// Write the result as JSON; - is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the result as a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// An earlier result (JSON), laid over this one in the page and told in the table
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Exit with 0 although answers were wrong, late or errors
    #[arg(long)]
    allow_errors: bool,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    Infer,
    Http,
    Stream,
}

#[derive(Clone, Copy, ValueEnum)]
enum Search {
    Connections,
    Streams,
    Rate,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    Binary,
    Text,
}

impl Bench {
    pub fn run(self) -> Result<(), Failure> {
        let (json, html, quiet, allow) =
            (self.json.clone(), self.html.clone(), self.quiet, self.allow_errors);
        let earlier = self.compare.as_deref().map(bench::read_report).transpose().map_err(plain)?;
        let plan = self.plan()?;
        let clock = Clock::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let on_screen = !quiet && std::io::stderr().is_terminal();
        let to_stdout = json.as_ref().is_some_and(|path| path.as_os_str() == "-");
        if !to_stdout {
            println!("{}", bench::head());
        }
        let progress = |progress: Progress<'_>| {
            if on_screen {
                eprint!("\r\x1b[2K{}", progress.line());
                let _ = std::io::stderr().flush();
            }
        };
        let done = |step: &bench::Step| {
            if on_screen {
                eprint!("\r\x1b[2K");
            }
            if !to_stdout {
                println!("{}", bench::line(step));
                bench::notes(step).iter().for_each(|note| println!("{note}"));
            }
        };
        let report = runtime.block_on(bench::run(&plan, clock, progress, done)).map_err(plain)?;
        if !to_stdout {
            bench::summary(&report, earlier.as_ref()).iter().for_each(|line| println!("{line}"));
        }
        self::write(&report, earlier.as_ref(), json, html)?;
        match report.complaint() {
            Some(complaint) if !allow => Err(complaint.into()),
            _ => Ok(()),
        }
    }

    fn plan(self) -> Result<Plan, Failure> {
        let server = location(&self.url)?;
        if !server.path.trim_end_matches('/').is_empty() {
            return Err(format!("'{}' has a path; --model and --target say what is asked", self.url).into());
        }
        let form = match self.form {
            Shape::Binary => Form::Binary,
            Shape::Text => Form::Text,
        };
        let target = match self.target {
            Kind::Infer => Target::Infer(form),
            Kind::Http => Target::Http(form),
            Kind::Stream => Target::Stream,
        };
        let trust = match (&self.ca, self.insecure) {
            (Some(file), _) => Trust::File(file.clone()),
            (None, true) => Trust::Anyone,
            (None, false) => Trust::System,
        };
        let address = |place: Location| {
            let trust = place.tls.then(|| trust.clone());
            Address { host: place.host, port: place.port, trust, headers: self.header.clone() }
        };
        let metrics = match &self.metrics_url {
            Some(url) => {
                let place = location(url)?;
                let path = place.path.clone();
                let path = if path.is_empty() { "/metrics".to_owned() } else { path };
                Metering { address: Some(address(place)), path, pid: self.server_pid }
            }
            None => Metering { address: None, path: "/metrics".to_owned(), pid: self.server_pid },
        };
        let address = address(server);
        let loads = self.loads()?;
        let goal = |search| Goal {
            sought: match search {
                Search::Connections => Sought::Connections,
                Search::Streams => Sought::Streams,
                Search::Rate => Sought::Rate,
            },
            quantile: self.percentile / 100.0,
            bound: self.below.unwrap_or_default(),
            precision: self.precision / 100.0,
        };
        let search = self.search.map(goal);
        if search.is_some_and(|goal| goal.sought == Sought::Rate) && self.rate.is_empty() {
            return Err("--search rate needs a --rate to begin with".into());
        }
        let reference = match (self.check, self.record) {
            (Some(Some(file)), _) => Reference::File(file),
            (Some(None), _) => Reference::Now,
            (None, Some(file)) => Reference::Record(file),
            (None, None) => Reference::None,
        };
        let payload = match &self.payload[..] {
            [] => Payload::Made { count: self.payloads.max(1), shapes: self.shape },
            files => Payload::Files(files.to_vec()),
        };
        Ok(Plan {
            label: self.label,
            address,
            model: self.model,
            version: self.model_version,
            target,
            loads,
            search,
            at_once: self.at_once,
            recorded: !self.depth.is_empty(),
            times: Times {
                warm_up: self.warm_up,
                duration: self.duration.max(Duration::from_millis(1)),
                drain: self.drain,
            },
            threads: self.threads.max(1),
            seed: self.seed,
            payload,
            check: Check { reference, tolerance: self.tolerance },
            metrics,
        })
    }

    /// Each combination of what was given is a step.
    fn loads(&self) -> Result<Vec<Load>, Failure> {
        let http = self.target == Kind::Http;
        let depths = match &self.depth[..] {
            [] if http || self.rate.is_empty() => &[1],
            [] => &[128],
            depths => depths,
        };
        if self.connections.contains(&0) || depths.contains(&0) {
            return Err("--connections and --depth are at least 1".into());
        }
        if http && depths.iter().any(|depth| *depth > 1) {
            return Err(
                "--depth: a connection of HTTP has one request at a time; use more connections".into()
            );
        }
        if self.rate.iter().any(|rate| !rate.is_finite() || *rate <= 0.0) {
            return Err("--rate is more than 0".into());
        }
        let mut loads = Vec::new();
        for &connections in &self.connections {
            for &depth in depths {
                if self.rate.is_empty() {
                    loads.push(Load { connections, pace: Pace::Closed { depth } });
                }
                for &rate in &self.rate {
                    let pace = Pace::Open { rate, poisson: self.poisson, depth };
                    loads.push(Load { connections, pace });
                }
            }
        }
        Ok(loads)
    }
}

/// A failure that has crossed no thread after all.
fn plain(failure: bench::Failure) -> Failure {
    failure
}

fn write(
    report: &Report,
    earlier: Option<&Report>,
    json: Option<PathBuf>,
    html: Option<PathBuf>,
) -> Result<(), Failure> {
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(report)? + "\n";
        if path.as_os_str() == "-" {
            print!("{text}");
        } else {
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    if let Some(path) = html {
        let page = bench::page(report, earlier);
        std::fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
