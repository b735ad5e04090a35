//! Log lines, for people or for machines.
//!
//! A thread of its own writes them: whoever reads the log may be slow, or have stopped, and no request waits for that.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::Failure;
use crate::config::{LogFormat, Settings};

/// Lines that wait to be written; the rest is dropped.
const WAITING: usize = 4096;

/// How long the end of the process waits for them.
const LAST: Duration = Duration::from_secs(1);

/// Starts the log; what this gives is dropped when the process is about to end.
pub fn start(settings: &Settings) -> Result<Log, Failure> {
    let filter = EnvFilter::builder()
        .parse(&settings.log)
        .map_err(|error| format!("log: '{}' was given, it is no filter: {error}", settings.log))?;
    // At their lowest levels they log whole addresses, and those of models may carry somebody's key.
    let quiet = ["ureq=info", "ureq_proto=info"];
    let filter = quiet.into_iter().try_fold(filter, |filter, directive| {
        Ok::<_, tracing_subscriber::filter::ParseError>(filter.add_directive(directive.parse()?))
    })?;
    let (queue, lines) = sync_channel(WAITING);
    let lost = Arc::new(AtomicU64::new(0));
    let lost_there = Arc::clone(&lost);
    std::thread::Builder::new().name("thalweg-log".into()).spawn(move || write(&lines, &lost_there))?;
    let log = Log { queue, lost };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(log.clone())
        .with_ansi(io::stderr().is_terminal());
    match settings.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(log)
}

enum Message {
    Line(Vec<u8>),
    /// All before it is written when this is dropped.
    End {
        _done: SyncSender<()>,
    },
}

fn write(lines: &Receiver<Message>, lost: &AtomicU64) {
    while let Ok(message) = lines.recv() {
        if let Message::Line(line) = message {
            let _ = io::stderr().write_all(&line);
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "lines were dropped: nobody reads the log, or not fast enough");
        }
    }
}

/// Lines on their way to the thread that writes them.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Waits until all lines are written, if somebody reads them.
    pub fn end(self) {
        let (done, wait) = sync_channel(0);
        if self.queue.try_send(Message::End { _done: done }).is_ok() {
            let _ = wait.recv_timeout(LAST);
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { log: self, bytes: Vec::new() }
    }
}

/// One line, which is sent off whole.
pub struct Line<'a> {
    log: &'a Log,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = Message::Line(std::mem::take(&mut self.bytes));
        if self.log.queue.try_send(line).is_err() {
            self.log.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
