//! How the kernel schedules a lane's thread.

/// Asks not to preempt others on being woken (`SCHED_BATCH`).
///
/// A lane is woken by the first request that arrives. Where it shares a core with the thread that reads
/// sockets, running at once would interrupt the very work that brings the rest of the batch: measured on one
/// core with 64 connections, batches of 8 instead of 34, and 40 % more CPU a message. On a free core the
/// lane runs at once either way.
#[cfg(target_os = "linux")]
pub(super) fn yield_to_others() {
    // SAFETY: all fields of `sched_param` are integers, for which zero is a value; for `SCHED_BATCH` the
    // priority must be 0.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: 0 names the calling thread, and the call only reads `parameters`.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "a lane keeps the usual scheduling");
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn yield_to_others() {}
