//! What Linux tells of this process, under the names that every Prometheus client uses for it.
//!
//! Written as text, since CPU time is a counter of fractions of seconds, and counters here are whole. What cannot be
//! read is left out.

use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

const CPU: &str = "process_cpu_seconds_total";
const MEMORY: &str = "process_resident_memory_bytes";
const OPEN_FDS: &str = "process_open_fds";
const MAX_FDS: &str = "process_max_fds";
const START: &str = "process_start_time_seconds";

/// In which Linux tells when a process was started (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What is told once, or needs a file that is open: when descriptors have run out, nothing can be opened.
pub struct Process {
    status: Option<File>,
    start: Option<f64>,
}

impl Process {
    pub fn new() -> Self {
        Self { status: File::open("/proc/self/status").ok(), start: start() }
    }

    pub fn append(&self, text: &mut String) {
        let mut tell = |name: &str, kind: &str, help: &str, value: Option<f64>| {
            if let Some(value) = value {
                let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
            }
        };
        tell(CPU, "counter", "CPU time that all threads have taken, in seconds", cpu());
        tell(MEMORY, "gauge", "Memory that the process holds, in bytes", self.memory());
        tell(OPEN_FDS, "gauge", "File descriptors that are open", open_fds());
        tell(MAX_FDS, "gauge", "File descriptors that may be open", max_fds());
        tell(START, "gauge", "When the process was started, in seconds since 1970", self.start);
    }

    fn memory(&self) -> Option<f64> {
        // Some 1.5 KiB; read at once, since it is another file the next time.
        let mut status = [0; 8 << 10];
        let length = self.status.as_ref()?.read_at(&mut status, 0).ok()?;
        let status = String::from_utf8_lossy(status.get(..length)?);
        after(&status, "VmRSS:").map(|kib| kib * 1024.0)
    }
}

/// The number behind a word at the beginning of a line.
fn after(text: &str, word: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn cpu() -> Option<f64> {
    let taken = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok()?;
    Some(taken.as_secs_f64())
}

/// Since Linux 6.2 the folder's size is their number. Before, it is zero and they are counted, which takes some
/// milliseconds where there are many thousands.
#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn open_fds() -> Option<f64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        // One of them is the folder's own, while it is read.
        0 => fs::read_dir(folder).ok().map(|open| open.count().saturating_sub(1) as f64),
        open => Some(open as f64),
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn max_fds() -> Option<f64> {
    getrlimit(Resource::Nofile).current.map(|most| most as f64)
}

fn start() -> Option<f64> {
    let boot = after(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    Some(boot + started(&fs::read_to_string("/proc/self/stat").ok()?)? / TICKS_PER_SECOND)
}

/// The 22nd field of `/proc/self/stat` (proc(5)). The second is the program's name, which may hold anything.
fn started(stat: &str) -> Option<f64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_may_hold_anything() {
        let rest: Vec<_> = (4..=30).map(|number| number.to_string()).collect();
        let stat = format!("7 (a) b (c)) S {}", rest.join(" "));
        assert_eq!((started(&stat), started("7 (a) S 4")), (Some(22.0), None));
    }

    #[test]
    fn this_process_is_told() {
        let mut text = String::new();
        Process::new().append(&mut text);
        let value = |name: &str| after(&text, name).unwrap_or_else(|| panic!("no {name} in {text}"));
        assert!(value(MEMORY) > 1e5 && value(CPU) >= 0.0);
        assert!(value(OPEN_FDS) >= 3.0 && value(OPEN_FDS) <= value(MAX_FDS));
        // After 2020, and not after now, which is what a file is touched with.
        let now = fs::metadata("/proc/self").and_then(|now| now.modified()).expect("a time");
        let now = now.duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs_f64();
        assert!((1.5e9..=now + 1.0).contains(&value(START)), "{} {now}", value(START));
    }
}
