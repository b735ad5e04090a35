//! The server under test: processes of its own, on a core of its own. Thalweg, or a peer that a command starts.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// For a server that was given too much to be done with it.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    process: Child,
    pub address: SocketAddr,
    /// A peer has no metrics of Thalweg's.
    is_peer: bool,
}

impl Server {
    pub fn start(core: &str, repository: &str) -> Self {
        let thalweg = env!("CARGO_BIN_EXE_thalweg");
        let options = ["--model-repository", repository, "--threads", "1", "--log", "warn"];
        let mut command = bound(core, thalweg);
        let server = Self::spawn(command.args(["serve", "--listen", "127.0.0.1:0"]).args(options), false);
        while !server.get("/v2/health/ready").starts_with("HTTP/1.1 200") {
            std::thread::yield_now();
        }
        server
    }

    /// Runs a command that says `listening on ADDRESS` once it serves, and ends when its standard input does.
    pub fn peer(core: &str, command: &str) -> Self {
        Self::spawn(bound(core, "sh").args(["-c", &format!("exec {command}")]), true)
    }

    fn spawn(command: &mut Command, is_peer: bool) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset and the server start");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let address = lines.by_ref().find_map(|line| line.ok()?.strip_prefix("listening on ")?.parse().ok());
        let Some(address) = address else {
            eprintln!("the server ended before it listened");
            std::process::exit(1);
        };
        // What else it has to say must not fill the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { process, address, is_peer }
    }

    pub fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.address).expect("the server listens");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").expect("sent");
        let mut reply = String::new();
        socket.read_to_string(&mut reply).expect("a reply");
        reply
    }

    /// The CPU time it has taken, in all its processes, as exact as the kernel's ticks of 10 ms.
    pub fn cpu(&self) -> Duration {
        let processes: HashMap<u32, Vec<u64>> = std::fs::read_dir("/proc")
            .expect("processes")
            .flatten()
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, stat(&entry.path())?)))
            .collect();
        let parent = |fields: &[u64]| u32::try_from(fields[0]).ok();
        let is_below = |mut process: u32| {
            while process != self.process.id() {
                match processes.get(&process).and_then(|fields| parent(fields)) {
                    Some(above) => process = above,
                    None => return false,
                }
            }
            true
        };
        let of_it = processes.iter().filter(|(process, _)| is_below(**process));
        // In user mode and in the kernel: its own, and of children that have ended.
        Duration::from_millis(of_it.map(|(_, fields)| fields[10..14].iter().sum::<u64>()).sum::<u64>() * 10)
    }

    /// Waits until it has nothing left to do of what is over.
    pub fn settle(&self) {
        const GLANCE: Duration = Duration::from_millis(250);
        let start = Instant::now();
        let mut before = self.cpu();
        while start.elapsed() < PATIENCE {
            std::thread::sleep(GLANCE);
            let now = self.cpu();
            if now.saturating_sub(before) < GLANCE / 5 {
                return;
            }
            before = now;
        }
    }

    /// Batches that a model has run, if the server tells.
    pub fn batches(&self, model: &str) -> Option<f64> {
        if self.is_peer {
            return None;
        }
        let metrics = self.get("/metrics");
        let prefix = format!("thalweg_batch_size_count{{model=\"{model}\"");
        let line = metrics.lines().find(|line| line.starts_with(&prefix)).expect("the model's batches");
        Some(line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        if !self.is_peer {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

fn bound(core: &str, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core, program]);
    command
}

/// The numbers behind a process's name and state: its parent is the first.
fn stat(process: &std::path::Path) -> Option<Vec<u64>> {
    let text = std::fs::read_to_string(process.join("stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    // Some may be negative, none of those that are asked for.
    Some(fields.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect())
}

/// The CPU time of all threads of a process, in nanoseconds as the scheduler counts them.
pub fn cpu(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("threads");
    let nanos = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Binds a process to a core.
pub fn pin(process: u32, core: &str) {
    let taskset = Command::new("taskset").args(["-cp", core, &process.to_string()]).output();
    assert!(taskset.is_ok_and(|output| output.status.success()), "taskset binds this process to core {core}");
}
