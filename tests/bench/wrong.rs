//! A WebSocket server that does one thing wrong, with its first requests.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Nothing,
    /// The second and the third answer change places.
    Swaps,
    /// The second answer does not come.
    Drops,
    /// The second answer comes twice.
    Repeats,
    /// The third answer has another value: the first one is what a reference records.
    Value,
    /// The second answer is an error.
    Errors,
    /// Closes with 1001 behind the second answer.
    Closes,
    /// Refuses the handshake.
    Refuses,
}

impl Wrong {
    /// Serves until the test ends.
    pub fn serve(self) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for (count, socket) in listener.incoming().enumerate() {
                std::thread::spawn(move || self.converse(socket.unwrap(), count));
            }
        });
        address
    }

    /// Returns when the client has had enough.
    fn converse(self, mut socket: TcpStream, count: usize) -> Option<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"GET /v2/models/model/infer ") || self == Self::Refuses {
            let body = r#"{"error":"no","code":"streams_full"}"#;
            let reply = format!("HTTP/1.1 503 No\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            return socket.write_all(reply.as_bytes()).ok();
        }
        socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").ok()?;
        let mut held: Option<String> = None;
        for request in 0.. {
            let id = Self::request(&mut socket)?;
            let mut say = |text: &str| {
                let length = u8::try_from(text.len()).unwrap();
                socket.write_all(&[&[0x81, length][..], text.as_bytes()].concat()).ok()
            };
            let answer = |value: u32| format!(r#"{{"id":"{id}","outputs":[{value}]}}"#);
            match (self, request) {
                (Self::Swaps, 1) => held = Some(answer(0)),
                (Self::Drops, 1) => {}
                (Self::Repeats, 1) => {
                    say(&answer(0))?;
                    say(&answer(0))?;
                }
                // The first connection is the reference's.
                (Self::Value, 2) if count > 0 => say(&answer(1))?,
                (Self::Errors, 1) => {
                    say(&format!(r#"{{"error":"no","code":"queue_full","id":"{id}","retryable":true}}"#))?;
                }
                (Self::Closes, 2) => {
                    socket.write_all(&[0x88, 2, 3, 0xe9]).ok()?;
                    socket.shutdown(std::net::Shutdown::Write).ok()?;
                    // What is left unread would reset the connection.
                    return socket.read_to_end(&mut Vec::new()).map(|_| ()).ok();
                }
                _ => {
                    say(&answer(0))?;
                    if let Some(held) = held.take() {
                        say(&held)?;
                    }
                }
            }
        }
        Some(())
    }

    /// Reads a request, and returns its id; anything else is the client's close frame.
    fn request(socket: &mut TcpStream) -> Option<String> {
        let mut bytes = |count: usize| {
            let mut bytes = vec![0; count];
            socket.read_exact(&mut bytes).ok()?;
            Some(bytes)
        };
        let head = bytes(2)?;
        let length = match head[1] & 0x7f {
            126 => usize::from(u16::from_be_bytes(bytes(2)?.try_into().unwrap())),
            short => usize::from(short),
        };
        assert_eq!(bytes(4)?, [0; 4], "the mask is documented");
        let payload = bytes(length)?;
        if head[0] == 0x88 {
            return None;
        }
        let request: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        Some(request["id"].as_str().unwrap().to_owned())
    }
}
