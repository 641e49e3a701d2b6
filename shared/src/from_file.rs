//! Settings that hold a secret, read from a file: passwords in the environment are seen by whoever lists processes or
//! inspects a container.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// No setting is longer. Stops at the wrong file before it fills the memory.
const LONGEST: u64 = 64 * 1024;

/// A setting whose text is the content of a file, without the white space around it. On the command line, and in the
/// environment, stands the name of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromFile<T>(T);

impl<T> Deref for FromFile<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: FromStr<Err: std::error::Error>> FromStr for FromFile<T> {
    type Err = InvalidFile;

    /// Reads the file of this name.
    fn from_str(name: &str) -> Result<Self, InvalidFile> {
        if name.is_empty() {
            return Err(InvalidFile::Nameless);
        }
        let file = PathBuf::from(name);
        let text = content(&file).map_err(|source| InvalidFile::Unreadable { file: file.clone(), source })?;
        if text.len() as u64 > LONGEST {
            return Err(InvalidFile::Long { file });
        }
        match text.trim() {
            "" => Err(InvalidFile::Empty { file }),
            text => {
                text.parse().map(Self).map_err(|error: T::Err| InvalidFile::Value { file, reason: error.to_string() })
            }
        }
    }
}

fn content(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(LONGEST + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Why a file gives no setting. Never repeats what stands in it, provided that the setting's own error does not.
#[derive(Debug, thiserror::Error)]
pub enum InvalidFile {
    #[error("no file is named; name one, or leave the setting out")]
    Nameless,
    #[error("cannot read {}: {source}; name a file that this user may read", .file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{} is empty; write the setting into it", .file.display())]
    Empty { file: PathBuf },
    #[error("{} is larger than any setting; name another file", .file.display())]
    Long { file: PathBuf },
    #[error("{} does not hold this setting: {reason}", .file.display())]
    Value { file: PathBuf, reason: String },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerAddress;

    const SECRET: &str = "s3cret";

    fn read(content: &str) -> Result<BrokerAddress, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let name = file.path().to_str().unwrap();
        let read = name.parse::<FromFile<BrokerAddress>>().map(|FromFile(address)| address);
        read.map_err(|error| {
            let text = error.to_string();
            assert!(text.contains(name) && !text.contains(SECRET), "{text}");
            text
        })
    }

    #[test]
    fn the_text_of_the_file_is_the_setting() {
        let url = format!("amqp://api:{SECRET}@mq/%2f");
        let expected: BrokerAddress = url.parse().unwrap();
        assert_eq!(read(&url), Ok(expected.clone()));
        assert_eq!(read(&format!(" \t{url}\r\n\n")), Ok(expected));
    }

    #[test]
    fn a_file_without_the_setting_is_named_and_not_repeated() {
        assert!(read(" \n").unwrap_err().contains("is empty"));
        assert!(read(&format!("http://api:{SECRET}@mq")).unwrap_err().contains("expected `embedded` or a URL"));
        assert!(read(&SECRET.repeat(20_000)).unwrap_err().contains("larger"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        for name in ["", "/no/such/file", "/"] {
            let error = name.parse::<FromFile<BrokerAddress>>().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
