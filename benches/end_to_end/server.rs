//! The server under test: a process of its own, on a core of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Server {
    process: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(core: &str, repository: &str) -> Self {
        let mut process = Command::new("taskset")
            .args(["-c", core, env!("CARGO_BIN_EXE_thalweg"), "serve", "--listen", "127.0.0.1:0"])
            .args(["--model-repository", repository, "--threads", "1", "--log", "warn"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset and the server start");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("the server speaks");
        let address =
            line.trim().strip_prefix("listening on ").expect("its address").parse().expect("an address");
        let server = Self { process, address };
        while !server.get("/v2/health/ready").starts_with("HTTP/1.1 200") {
            std::thread::yield_now();
        }
        server
    }

    pub fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.address).expect("the server listens");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").expect("sent");
        let mut reply = String::new();
        socket.read_to_string(&mut reply).expect("a reply");
        reply
    }

    /// The CPU time it has taken.
    pub fn cpu(&self) -> Duration {
        cpu(self.process.id())
    }

    /// Batches that a model has run.
    pub fn batches(&self, model: &str) -> f64 {
        let metrics = self.get("/metrics");
        let prefix = format!("thalweg_batch_size_count{{model=\"{model}\"");
        let line = metrics.lines().find(|line| line.starts_with(&prefix)).expect("the model's batches");
        line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
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
