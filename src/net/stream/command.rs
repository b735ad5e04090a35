//! What a client asks of a stream in a text message.

pub enum Command {
    Flush,
    Reset,
    Close,
}

impl Command {
    pub fn read(message: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Asked<'a> {
            r#type: &'a str,
        }
        match serde_json::from_slice::<Asked<'_>>(message).ok()?.r#type {
            "flush" => Some(Self::Flush),
            "reset" => Some(Self::Reset),
            "close" => Some(Self::Close),
            _ => None,
        }
    }
}
