use std::borrow::Cow;

use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Why a socket is closed, as its client is told: a code, and a reason of at most 123 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goodbye {
    code: CloseCode,
    reason: Cow<'static, str>,
}

impl Goodbye {
    /// `1000`: all was said.
    pub const OVER: Self = Self::of(CloseCode::Normal, "there will be nothing more");
    /// `1001`: this process stops.
    pub const STOPPING: Self =
        Self::of(CloseCode::Away, "this API stops; go on after the last event, here or elsewhere");
    /// `1002`: what came is no WebSocket.
    pub const NO_WEBSOCKET: Self = Self::of(CloseCode::Protocol, "this breaks the rules of WebSocket (RFC 6455)");
    /// `1003`: a binary message.
    pub const BINARY: Self = Self::of(CloseCode::Unsupported, "send text, not binary messages");
    /// `1003`: a message where none is taken.
    pub const NO_COMMANDS: Self = Self::of(CloseCode::Unsupported, "nothing is taken here; commands go to /v1/socket");
    /// `1007`: text that is none.
    pub const NOT_UTF8: Self = Self::of(CloseCode::Invalid, "text is UTF-8");
    /// `1008`: whose key lets nobody in any longer.
    pub const UNWELCOME: Self = Self::of(CloseCode::Policy, "what you were let in by is good no longer");
    /// `1008`: of whom nothing was heard.
    pub const SILENT: Self = Self::of(CloseCode::Policy, "nothing was heard of you, not even an answer to pings");

    const fn of(code: CloseCode, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    /// `1009`: a message of more than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self { code: CloseCode::Size, reason: format!("a message has at most {limit} bytes here").into() }
    }
}

impl From<Goodbye> for CloseFrame {
    fn from(Goodbye { code, reason }: Goodbye) -> Self {
        Self { code, reason: reason.into_owned().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_its_frame() {
        let all = [
            Goodbye::OVER,
            Goodbye::STOPPING,
            Goodbye::NO_WEBSOCKET,
            Goodbye::BINARY,
            Goodbye::NO_COMMANDS,
            Goodbye::NOT_UTF8,
            Goodbye::UNWELCOME,
            Goodbye::SILENT,
            Goodbye::too_large(usize::MAX),
        ];
        for goodbye in all {
            // A control frame has 125 bytes, of which the code takes two.
            assert!(goodbye.reason.len() <= 123 && goodbye.code.is_allowed(), "{goodbye:?}");
        }
    }
}
