//! Room for connections: each is a file descriptor.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the server needs beside its connections: files, models, the runtime's own.
const OTHERS: u64 = 256;

/// Raises the soft limit of descriptors to the hard one, which needs no rights. Shells and container runtimes start
/// programs with a soft limit of 1024, for the sake of those that use `select`.
pub fn raise(max_connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // None is no limit.
    if let Some(current) = current
        && max_connections as u64 + OTHERS > current
    {
        tracing::warn!(
            descriptors = current,
            max_connections,
            "there are fewer file descriptors than connections allowed: raise the hard limit, or lower max_connections"
        );
    }
}
