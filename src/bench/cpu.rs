//! The kernel's account of processor time, from `/proc`.

use std::time::Duration;

/// What the calling thread has taken.
pub fn of_this_thread() -> Option<Duration> {
    nanos(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// What all threads of a process and of those that it has started have taken, of which live.
pub fn of_process(process: u32) -> Option<Duration> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let mut sum = Duration::ZERO;
    for path in threads.flatten().map(|thread| thread.path()) {
        let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default();
        sum += nanos(&read("schedstat")).unwrap_or_default();
        let children = read("children");
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        sum += children.filter_map(of_process).sum::<Duration>();
    }
    Some(sum)
}

fn nanos(schedstat: &str) -> Option<Duration> {
    schedstat.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_a_part_of_its_process() {
        let thread = of_this_thread().unwrap();
        assert!(of_process(std::process::id()).unwrap() >= thread);
        assert_eq!(of_process(u32::MAX), None);
    }
}
