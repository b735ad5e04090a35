//! What is to be measured: a target, one or more loads, and for how long.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A whole run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the user calls the run.
    pub label: Option<String>,
    pub address: Address,
    pub model: String,
    pub version: Option<String>,
    pub target: Target,
    /// One step for each, or where the search begins.
    pub loads: Vec<Load>,
    pub search: Option<Goal>,
    /// Streams send at the same moment, rather than spread over the time between two pieces.
    pub at_once: bool,
    /// A closed loop is one for signals, too: they are recordings, and come as fast as they are answered.
    pub recorded: bool,
    pub times: Times,
    pub threads: usize,
    pub seed: u64,
    pub payload: Payload,
    pub check: Check,
    pub metrics: Metering,
}

/// Where the server is.
#[derive(Debug, Clone)]
pub struct Address {
    pub host: String,
    pub port: u16,
    pub trust: Option<Trust>,
    /// Sent with every request, as `Name: value`.
    pub headers: Vec<String>,
}

/// Whose certificates are accepted over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those that the system trusts.
    System,
    /// Those that this file of PEM vouches for.
    File(PathBuf),
    Anyone,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Infer(Form),
    Http(Form),
    Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    Binary,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Infer(Form::Text) => "infer text",
            Self::Infer(Form::Binary) => "infer binary",
            Self::Http(Form::Text) => "http text",
            Self::Http(Form::Binary) => "http binary",
            Self::Stream => "stream",
        })
    }
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Load {
    pub connections: usize,
    #[serde(flatten)]
    pub pace: Pace,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub enum Pace {
    /// Each connection has so many requests unanswered, always.
    Closed { depth: usize },
    /// So many requests a second in all, each at its time, whatever became of those before.
    Open { rate: f64, poisson: bool, depth: usize },
    /// Each connection is a live signal.
    RealTime { at_once: bool },
}

impl Load {
    /// What a step is called in tables.
    pub fn label(&self) -> String {
        match self.pace {
            Pace::Closed { depth } => format!("{} × {depth}", self.connections),
            Pace::Open { rate, poisson, .. } => {
                format!("{rate:.0}/s{} over {}", if poisson { " Poisson" } else { "" }, self.connections)
            }
            Pace::RealTime { at_once } => {
                format!("{} streams{}", self.connections, if at_once { " at once" } else { "" })
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    pub warm_up: Duration,
    pub duration: Duration,
    /// For so long answers are waited for behind the end.
    pub drain: Duration,
}

/// What a search looks for: the largest load with this quantile of latencies within a bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    pub sought: Sought,
    pub quantile: f64,
    pub bound: Duration,
    /// How near the answer has to be, as a part of it.
    pub precision: f64,
}

/// What a search varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sought {
    Connections,
    /// Connections of real-time signals.
    Streams,
    /// Requests a second.
    Rate,
}

/// What requests carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Made from the model's metadata: so many different requests, and sizes for dimensions that are free.
    Made {
        count: usize,
        shapes: Vec<(String, Vec<usize>)>,
    },
    Files(Vec<PathBuf>),
}

/// What answers are held against, beside their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    pub reference: Reference,
    pub tolerance: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    None,
    /// What the server says before there is any load.
    Now,
    File(PathBuf),
    /// As `Now`, and written down.
    Record(PathBuf),
}

/// Where the server's own figures come from.
#[derive(Debug, Clone)]
pub struct Metering {
    /// Absent, that of the target.
    pub address: Option<Address>,
    pub path: String,
    /// A server on this machine.
    pub pid: Option<u32>,
}
