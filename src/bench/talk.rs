//! A conversation in turns, before there is any load: what the server says of a stream, and answers to record.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::exchange::Answer;
use super::frame::{self, Fragments, Frame, Incoming};
use super::http::Reply;
use super::judge::Said;
use super::reference::Recorded;
use super::script::{Answering, Script};
use super::socket::{Dialer, Socket};
use super::{Broken, Failure};

/// An answer that is not there by then will not come.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Talk {
    socket: Socket,
    bytes: Vec<u8>,
    /// Of a WebSocket.
    fragments: Option<Fragments>,
}

/// An answer, on its own.
pub struct Heard {
    pub json: Vec<u8>,
    pub data: Vec<u8>,
    pub status: Option<u16>,
}

impl Talk {
    /// A WebSocket at a path, or a connection for HTTP.
    pub async fn open(dialer: &Dialer, path: Option<&str>) -> Result<Self, Failure> {
        let (socket, bytes) = match path {
            Some(path) => dialer.open(path).await.map_err(|refusal| refusal.why)?,
            None => (dialer.connect().await.map_err(|refusal| refusal.why)?, Vec::new()),
        };
        Ok(Self { socket, bytes, fragments: path.map(|_| Fragments::default()) })
    }

    pub async fn say(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.socket.write_all(bytes).await?;
        Ok(self.socket.flush().await?)
    }

    /// The next message.
    pub async fn hear(&mut self) -> Result<Heard, Failure> {
        let hearing = async {
            loop {
                if let Some(said) = self.next().await? {
                    return Ok(said);
                }
                if self.socket.read_buf(&mut self.bytes).await? == 0 {
                    return Err(Failure::from("the server ended the connection"));
                }
            }
        };
        tokio::time::timeout(PATIENCE, hearing)
            .await
            .unwrap_or_else(|_| Err("the server says nothing".into()))
    }

    async fn next(&mut self) -> Result<Option<Heard>, Failure> {
        let said = |answer: &Answer<'_>| Heard {
            json: answer.json.to_vec(),
            data: answer.data.to_vec(),
            status: answer.status,
        };
        loop {
            let Some(fragments) = &mut self.fragments else {
                let Some(reply) = Reply::parse(&self.bytes)? else { return Ok(None) };
                let body = self.bytes.get(reply.body.clone()).unwrap_or_default();
                let split = body.split_at_checked(reply.json.unwrap_or(body.len()));
                let (json, data) = split.ok_or(Broken::new("an answer that is cut"))?;
                let said = said(&Answer { json, data, status: Some(reply.status) });
                self.bytes.drain(..reply.body.end);
                return Ok(Some(said));
            };
            let Some(frame) = Frame::parse(&self.bytes)? else { return Ok(None) };
            let mut pong = None;
            let found = match fragments.take(&frame, &self.bytes)? {
                Incoming::Message { text, payload } => {
                    let answer = Answer::of_message(text, payload);
                    Some(said(&answer.ok_or(Broken::new("a binary message that is cut"))?))
                }
                Incoming::Ping(payload) => {
                    pong = Some(payload.to_vec());
                    None
                }
                Incoming::Close(_) => return Err("the server closed the WebSocket".into()),
                Incoming::Nothing => None,
            };
            self.bytes.drain(..frame.payload.end);
            if let Some(payload) = pong {
                let mut out = Vec::new();
                frame::append(&mut out, frame::PONG, &payload);
                self.say(&out).await?;
            }
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Says goodbye and hears all out.
    pub async fn close(mut self) {
        let mut out = Vec::new();
        frame::append(&mut out, frame::CLOSE, &1000u16.to_be_bytes());
        if self.fragments.is_some() && self.say(&out).await.is_ok() {
            while self.hear().await.is_ok() {}
            let _ = tokio::time::timeout(Duration::from_secs(1), self.socket.read(&mut [0])).await;
        }
    }

    /// What the server answers to each message, or of a signal in its first `windows`.
    pub async fn record(&mut self, script: &Script, windows: u64) -> Result<Vec<Recorded>, Failure> {
        let mut judge = script.judge();
        let mut recorded = Vec::new();
        let count = match script.answering {
            Answering::Each => script.messages.len() as u64,
            Answering::Windows(_) => windows,
        };
        let mut sent = 0;
        let mut out = Vec::new();
        while (recorded.len() as u64) < count {
            out.clear();
            script.append(sent, sent, &mut out);
            self.say(&out).await?;
            let answers = script.answers_of(sent);
            sent += 1;
            let mut heard = 0;
            while heard < answers {
                let answer = self.hear().await?;
                match judge.read(&answer.json) {
                    Said::Unasked => continue,
                    Said::Result(_) if answer.status.is_none_or(|status| status == 200) => {}
                    _ => {
                        let text = String::from_utf8_lossy(&answer.json).into_owned();
                        return Err(format!("without any load, the server answers: {text}").into());
                    }
                }
                heard += 1;
                let id = judge.find_number(&answer.json);
                recorded.push(Recorded::of(&answer.json, &answer.data, id));
            }
        }
        Ok(recorded)
    }
}
