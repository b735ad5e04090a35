//! An HTTP server on this machine that does as told; the last it was told it does for ever. It has no checksums.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

#[derive(Debug, Clone)]
pub enum Answer {
    /// As a good server does, with ranges and the ETag `v1`.
    Well,
    /// The same, but for so many bytes of the body only.
    Cut(usize),
    Status(u16),
    /// All of it, or so many bytes, with nothing that tells one version from another.
    Nameless(Option<usize>),
}

pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start(file: Vec<u8>, script: Vec<Answer>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            let mut script = script.into_iter().peekable();
            let mut last = Answer::Well;
            for stream in listener.incoming().flatten() {
                answer(stream, &file, &log, || {
                    last = script.next().unwrap_or_else(|| last.clone());
                    last.clone()
                });
            }
        });
        Self { address, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}/models", self.address)
    }

    /// The range of each request for the file, or `all`.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, file: &[u8], log: &Mutex<Vec<String>>, next: impl FnOnce() -> Answer) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let lines: Vec<_> =
        lines.map(|line| line.to_ascii_lowercase()).take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    if lines.first().is_none_or(|line| line.contains(".sha256")) {
        let _ = stream.write_all(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
    }
    let (range, known) = (header("range"), header("if-range"));
    log.lock().unwrap().push(match (range, known) {
        (Some(range), Some(known)) => format!("{range} if {known}"),
        _ => "all".to_owned(),
    });
    let answer = next();
    let from = range.filter(|_| known == Some("v1") && !matches!(answer, Answer::Nameless(_)));
    let from =
        from.map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    let size = file.len();
    let (head, body) = match answer {
        Answer::Status(status) => (format!("{status} Told so\r\n"), &[][..]),
        Answer::Nameless(_) => ("200 OK\r\n".to_owned(), file),
        _ if from == 0 => ("200 OK\r\netag: v1\r\n".to_owned(), file),
        _ if from >= size => {
            (format!("416 Too far\r\netag: v1\r\ncontent-range: bytes */{size}\r\n"), &[][..])
        }
        _ => {
            let range = format!("bytes {from}-{}/{size}", size - 1);
            (format!("206 Partial Content\r\netag: v1\r\ncontent-range: {range}\r\n"), &file[from..])
        }
    };
    let sent = match answer {
        Answer::Cut(count) | Answer::Nameless(Some(count)) => &body[..count.min(body.len())],
        _ => body,
    };
    let length = body.len();
    // A client that had enough has gone; that is its right.
    let _ = write!(stream, "HTTP/1.1 {head}content-length: {length}\r\nconnection: close\r\n\r\n")
        .and_then(|()| stream.write_all(sent));
}
