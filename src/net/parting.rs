//! The last words of a connection: our close frame, and then the client's.
//!
//! Our side of the socket ends only once the client has answered. Many a proxy takes the end of one side for the end of
//! both, and what the client has not read by then it may never see.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::socket::{Event, MessageReader};

/// How long a client may take to read our close frame, and again to answer it.
const LINGER: Duration = Duration::from_secs(2);

/// What is still to come from a client when we close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing: it has closed.
    Nothing,
    /// Messages, perhaps, and its close frame.
    ItsClose,
    /// It broke the rules: nobody knows.
    Anything,
}

/// Sends the close frame and ends the connection, if the client takes part in that.
pub async fn part<R, W>(write: &mut W, messages: &mut MessageReader<R>, close: &[u8], rest: Rest)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let said = async { write.write_all(close).await.is_ok() && write.flush().await.is_ok() };
    if tokio::time::timeout(LINGER, said).await != Ok(true) {
        return;
    }
    if rest == Rest::ItsClose {
        let _ = tokio::time::timeout(LINGER, answer(messages)).await;
    }
    let ended = tokio::time::timeout(LINGER, write.shutdown()).await;
    if rest == Rest::Anything && matches!(ended, Ok(Ok(()))) {
        // A socket that is closed with unread bytes is reset, and the client may never see what was sent to it last.
        let _ = tokio::time::timeout(LINGER, async { while messages.skip().await.is_ok() {} }).await;
    }
}

/// Reads on until the client closes.
async fn answer(messages: &mut MessageReader<impl AsyncRead + Unpin>) {
    loop {
        match messages.received() {
            Ok(Some(Event::Close(_))) | Err(_) => return,
            Ok(Some(_)) => {}
            Ok(None) => {
                if messages.fill().await.is_err() {
                    return;
                }
            }
        }
    }
}
