//! What Linux tells of this process, under the names that every Prometheus client uses for it.
//!
//! Written as text, since CPU time is a counter of fractions of seconds, and counters here are whole. What cannot be
//! read is left out.

use std::fmt::Write;
use std::fs;

const CPU: &str = "process_cpu_seconds_total";
const MEMORY: &str = "process_resident_memory_bytes";
const OPEN_FDS: &str = "process_open_fds";
const MAX_FDS: &str = "process_max_fds";
const START: &str = "process_start_time_seconds";

/// In which Linux tells times to programs (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

pub fn append(text: &mut String) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut tell = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
        }
    };
    tell(CPU, "counter", "CPU time that all threads have taken, in seconds", cpu(&stat));
    tell(MEMORY, "gauge", "Memory that the process holds, in bytes", memory());
    tell(OPEN_FDS, "gauge", "File descriptors that are open", open_fds());
    tell(MAX_FDS, "gauge", "File descriptors that may be open", max_fds());
    tell(START, "gauge", "When the process was started, in seconds since 1970", start(&stat));
}

/// A field of `/proc/self/stat`, counted from 1 as in proc(5), from the third on: before it stands the program's name,
/// which may hold anything.
fn field(stat: &str, number: usize) -> Option<f64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number - 3)?.parse().ok()
}

/// The number behind a word at the beginning of a line.
fn after(text: &str, word: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn cpu(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS_PER_SECOND)
}

fn memory() -> Option<f64> {
    after(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:").map(|kib| kib * 1024.0)
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

fn max_fds() -> Option<f64> {
    after(&fs::read_to_string("/proc/self/limits").ok()?, "Max open files")
}

fn start(stat: &str) -> Option<f64> {
    let boot = after(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    Some(boot + field(stat, 22)? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_may_hold_anything() {
        let rest: Vec<_> = (4..=30).map(|number| number.to_string()).collect();
        let stat = format!("7 (a) b (c)) S {}", rest.join(" "));
        assert_eq!([4, 14, 22].map(|number| field(&stat, number)), [Some(4.0), Some(14.0), Some(22.0)]);
        assert_eq!((field("", 14), field(&stat, 31)), (None, None));
    }

    #[test]
    fn this_process_is_told() {
        let mut text = String::new();
        append(&mut text);
        let value = |name: &str| after(&text, name).unwrap_or_else(|| panic!("no {name} in {text}"));
        assert!(value(MEMORY) > 1e5 && value(CPU) >= 0.0);
        assert!(value(OPEN_FDS) >= 3.0 && value(OPEN_FDS) <= value(MAX_FDS));
        // After 2020, and not after now, which is what a file is touched with.
        let now = fs::metadata("/proc/self").and_then(|now| now.modified()).expect("a time");
        let now = now.duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs_f64();
        assert!((1.5e9..=now + 1.0).contains(&value(START)), "{} {now}", value(START));
    }
}
