//! What goes to standard output and standard error.

use std::io::{ErrorKind, Write};

use comfy_table::{Table, presets};

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

/// Writes a line to standard error that belongs to the output and must not get into it.
pub fn tell(text: &str) {
    eprintln!("{text}");
}

/// Tells a person something beside the output; says nothing when nobody reads it on a terminal.
pub fn hint(text: &str) {
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        eprintln!("{text}");
    }
}

/// A table without lines. `cut -d' ' -f1` gives its first column.
pub fn table<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table.trim_fmt()
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
