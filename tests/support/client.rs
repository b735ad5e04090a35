//! HTTP and WebSocket over a bare socket: what is sent is what the test says, right or wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Waiting so long is a failure, and costs nothing otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpCode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text} ({self:?})"))
    }
}

/// A message of the server's.
#[derive(Debug)]
pub struct Message {
    pub opcode: OpCode,
    pub payload: Vec<u8>,
}

impl Message {
    /// The JSON of a text message, or the header of a binary one.
    pub fn json(&self) -> Value {
        let json = match self.opcode {
            OpCode::Text => &self.payload[..],
            OpCode::Binary => {
                let length = u32::from_le_bytes(self.payload[..4].try_into().unwrap());
                &self.payload[4..][..usize::try_from(length).unwrap()]
            }
            other => panic!("{other:?} holds no JSON"),
        };
        serde_json::from_slice(json).unwrap()
    }
}

/// One connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// A WebSocket at a path.
    pub fn open(address: SocketAddr, path: &str) -> Self {
        let mut client = Self::connect(address);
        let reply = client.ask(&Self::handshake(path));
        assert_eq!(reply.status, 101, "{path}: {reply:?}");
        client
    }

    pub fn handshake(path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Sends an HTTP request and reads its answer.
    pub fn ask(&mut self, request: &str) -> Reply {
        self.send(request);
        self.reply(!request.starts_with("HEAD "))
    }

    pub fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Reply {
        let head = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        self.send([head.as_bytes(), body].concat());
        self.reply(true)
    }

    /// Reads an HTTP answer, which has no body if it answers HEAD.
    pub fn reply(&mut self, has_body: bool) -> Reply {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.stream.read_line(&mut line).unwrap(), 0, "the connection ended in {lines:?}");
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines[1..].iter().map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let mut reply = Reply { status, headers, body: Vec::new() };
        if has_body && let Some(length) = reply.header("content-length") {
            reply.body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut reply.body).unwrap();
        }
        reply
    }

    pub fn message(&mut self, opcode: OpCode, payload: impl AsRef<[u8]>) {
        self.send(frame(opcode, payload.as_ref()));
    }

    pub fn receive(&mut self) -> Message {
        let (first, payload) = self.frame();
        assert!(first & 0x80 != 0, "a fragment came where a whole message was expected");
        let opcode = match first & 0xf {
            1 => OpCode::Text,
            2 => OpCode::Binary,
            8 => OpCode::Close,
            9 => OpCode::Ping,
            10 => OpCode::Pong,
            other => panic!("opcode {other}"),
        };
        Message { opcode, payload }
    }

    /// Reads one frame: its first byte, and its payload.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut bytes = |count: usize| {
            let mut bytes = vec![0; count];
            self.stream.read_exact(&mut bytes).unwrap();
            bytes
        };
        let head = bytes(2);
        assert!(head[0] & 0x70 == 0 && head[1] & 0x80 == 0, "no extension, and no mask: {head:?}");
        let length = match head[1] {
            126 => usize::from(u16::from_be_bytes(bytes(2).try_into().unwrap())),
            127 => usize::try_from(u64::from_be_bytes(bytes(8).try_into().unwrap())).unwrap(),
            short => usize::from(short),
        };
        (head[0], bytes(length))
    }

    /// Reads a close frame's code, and answers it.
    pub fn close_code(&mut self) -> u16 {
        let message = self.receive();
        assert_eq!(message.opcode, OpCode::Close, "{message:?}");
        // The server may have ended the connection, and may be the one that answers.
        let _ = self.try_send(frame(OpCode::Close, &message.payload[..2]));
        u16::from_be_bytes(message.payload[..2].try_into().unwrap())
    }

    /// Ends the connection with a reset, as a machine that crashes does, and not with an orderly end.
    pub fn reset_on_drop(&self) {
        let socket = socket2::SockRef::from(self.stream.get_ref());
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Whether the server has ended the connection.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}

/// A frame of a client's, masked with zeros, which leave the payload as it is.
pub fn frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode as u8];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}
