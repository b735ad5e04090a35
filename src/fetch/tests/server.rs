//! An HTTP server on this machine that misbehaves as told: one answer a connection, then it is gone.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How one request is answered.
#[derive(Debug, Clone)]
pub enum Serve {
    /// As a good server does, ranges included.
    Well,
    /// Only so many bytes of the answer's body, then the connection ends.
    Break(usize),
    /// The whole file whatever range is asked for; of it, only so many bytes if told so.
    NoRange(Option<usize>),
    /// This status and no file.
    Status(u16),
    /// Another body, whatever is asked for; without its length if told so.
    Other { body: Vec<u8>, length: bool },
}

pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves `file` as the script says.
    pub fn start(file: Vec<u8>, script: Vec<Serve>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for serve in script {
                let Ok((stream, _)) = listener.accept() else { return };
                answer(stream, &file, &serve, &log);
            }
        });
        Self { address, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}/wheels/it.whl", self.address)
    }

    /// What was asked for so far: the range of each request, or `all`.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, file: &[u8], serve: &Serve, log: &Mutex<Vec<String>>) {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut range = None;
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let line = line.unwrap_or_default().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        range = line.strip_prefix("range: ").map(str::to_owned).or(range);
    }
    log.lock().unwrap().push(range.clone().unwrap_or_else(|| "all".to_owned()));
    let from: usize = range
        .filter(|_| matches!(serve, Serve::Well | Serve::Break(_)))
        .map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    let (head, body) = match serve {
        Serve::Status(status) => (format!("{status} Told so\r\ncontent-length: 0\r\n"), &[][..]),
        Serve::Other { body, length: true } => {
            (format!("200 OK\r\ncontent-length: {}\r\n", body.len()), &body[..])
        }
        Serve::Other { body, length: false } => ("200 OK\r\n".to_owned(), &body[..]),
        Serve::Well | Serve::Break(_) if from >= file.len() => (
            format!("416 Too far\r\ncontent-range: bytes */{}\r\ncontent-length: 0\r\n", file.len()),
            &[][..],
        ),
        Serve::Well | Serve::Break(_) if from > 0 => (
            format!(
                "206 Partial Content\r\ncontent-range: bytes {from}-{}/{}\r\ncontent-length: {}\r\n",
                file.len() - 1,
                file.len(),
                file.len() - from
            ),
            &file[from..],
        ),
        _ => (format!("200 OK\r\ncontent-length: {}\r\n", file.len()), file),
    };
    let sent = match serve {
        Serve::Break(bytes) | Serve::NoRange(Some(bytes)) => &body[..*bytes],
        _ => body,
    };
    // A client that had enough has gone; that is its right.
    let _ = write!(stream, "HTTP/1.1 {head}connection: close\r\n\r\n").and_then(|()| stream.write_all(sent));
}
