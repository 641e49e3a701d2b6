//! What a worker and the guard of a program say to each other, over a socket that no program ever sees.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::program::Environment;

/// The one word that a worker says after its order. To hang up means the same.
pub(super) const STOP: &str = "stop\n";
/// No order has more bytes, its input apart.
const LONGEST: u64 = 16 << 20;

/// What the guard is to run: one line of JSON, and the input behind it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) environment: Environment,
    /// Where the run gets a directory of its own.
    pub(super) directories: PathBuf,
    pub(super) bounds: Bounds,
    pub(super) grace_ms: u64,
    pub(super) input_bytes: u64,
}

/// What each process of the program may use up.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bounds {
    pub(super) memory: Option<u64>,
    pub(super) cpu_seconds: Option<u64>,
    pub(super) files: u64,
}

/// What the guard tells, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The program runs, and this is its number and that of its group.
    Started { id: i32 },
    /// It could not be started.
    NotStarted { reason: String },
    /// It has ended, and nothing that it started is left.
    Ended {
        /// As `wait` tells it.
        status: i32,
        /// Why its directory could not be removed.
        left_behind: Option<String>,
    },
}

impl Order {
    /// Reads an order and its input.
    ///
    /// # Errors
    /// When what comes is none.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<(Self, Vec<u8>)> {
        let mut line = String::new();
        from.by_ref().take(LONGEST).read_line(&mut line)?;
        let order: Self = serde_json::from_str(&line)?;
        let mut input = Vec::new();
        from.take(order.input_bytes).read_to_end(&mut input)?;
        if input.len() as u64 == order.input_bytes {
            Ok((order, input))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// A line of JSON.
///
/// # Errors
/// When a path is no text.
pub(super) fn line(of: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(of)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn order(input_bytes: u64) -> Order {
        Order {
            program: "/bin/cat".into(),
            args: vec!["a b".into()],
            environment: Environment(BTreeMap::from([("A".into(), "1\n2".into())])),
            directories: "/tmp".into(),
            bounds: Bounds { memory: None, cpu_seconds: Some(1), files: 16 },
            grace_ms: 1,
            input_bytes,
        }
    }

    #[test]
    fn an_order_is_read_with_its_input_and_no_further() {
        let mut sent = line(&order(4)).unwrap();
        sent.extend(b"a\n\nbstop\n");
        let mut from = &sent[..];
        let (read, input) = Order::read(&mut from).unwrap();
        assert_eq!(read.environment.0["A"], "1\n2");
        assert!(!format!("{read:?}").contains("1\\n2"), "{read:?}");
        assert_eq!((read.args, input, from), (order(4).args, b"a\n\nb".to_vec(), STOP.as_bytes()));
    }

    #[test]
    fn half_an_order_is_none() {
        let whole = [line(&order(4)).unwrap(), b"abcd".to_vec()].concat();
        for end in 0..whole.len() {
            assert!(Order::read(&mut &whole[..end]).is_err(), "{end}");
        }
        assert!(Order::read(&mut &whole[..]).is_ok());
    }
}
