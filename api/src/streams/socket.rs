//! A stream on a WebSocket: each message is one event.

use std::pin::pin;

use futures_util::{StreamExt, stream};

use super::{Ending, Live, Said, Source};
use crate::websocket::{Goodbye, Heard, Socket};

impl From<Ending> for Goodbye {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Over => Self::OVER,
            Ending::Stopping => Self::STOPPING,
            Ending::Unwelcome => Self::UNWELCOME,
        }
    }
}

impl<S: Source> Live<S> {
    /// Shows its events there until it has ended or the client is gone. Signs of life are the socket's own.
    pub async fn show_on(self, mut socket: Socket) {
        let goodbye = self.run(&mut socket).await;
        socket.close(goodbye).await;
    }

    /// Ends with what is to be said at last; `None` when nobody would hear it.
    async fn run(self, socket: &mut Socket) -> Option<Goodbye> {
        // Kept from turn to turn: it may hold an event that nobody has seen yet.
        let mut said = pin!(stream::unfold(Some(self), async |live| {
            let mut live = live?;
            match live.next().await {
                Ok(said) => Some((Ok(said), Some(live))),
                Err(ending) => Some((Err(ending), None)),
            }
        }));
        loop {
            let said = tokio::select! {
                said = said.next() => said?,
                heard = socket.next(true) => match heard {
                    Heard::Text(_) => return Some(Goodbye::NO_COMMANDS),
                    Heard::Wrong(goodbye) => return Some(goodbye),
                    Heard::Gone => return None,
                },
            };
            match said {
                Ok(Said::Event { data, .. }) => socket.say(&data).await.ok()?,
                Ok(Said::Greeting { .. } | Said::Life { .. }) => {}
                Err(ending) => return Some(ending.into()),
            }
        }
    }
}
