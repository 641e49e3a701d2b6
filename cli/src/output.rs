//! What goes to standard output and standard error.

use std::io::{ErrorKind, Write};

/// Writes a line to standard output. A reader that has seen enough (`| head`) is no error.
pub fn line(text: impl AsRef<[u8]>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_ref()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a line to standard error: something went wrong, and the rest goes on.
pub fn complain(text: &str) {
    eprintln!("buzzer: {text}");
}

/// Tells a person something beside the output; says nothing when nobody reads it on a terminal.
pub fn hint(text: &str) {
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        eprintln!("{text}");
    }
}

/// Text of others, on one line and without characters that would drive the terminal.
pub fn plain(text: &str) -> String {
    let safe = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.trim_end().chars().map(safe).collect()
}
