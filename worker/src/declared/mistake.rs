//! What can be wrong with the file, and what to do.

use std::path::PathBuf;

use buzzer_shared::from_file::InvalidFile;
use buzzer_shared::kind::Kind;
use buzzer_shared::webhook::NotASecret;
use toml::Spanned;

use crate::builder::BuildError;

/// Why a file declares nothing.
#[derive(Debug, thiserror::Error)]
pub enum DeclaredError {
    #[error("cannot read {}: {source}; name a file that this user may read", .file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{}, line {line}: {mistake}", .file.display())]
    Mistake { file: PathBuf, line: usize, mistake: Mistake },
}

/// What is wrong with one line of it, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    #[error("{0}")]
    Toml(String),
    #[error("the kind {0} is declared twice: give one of them another name")]
    Twice(Kind),
    #[error("who runs the kind {0}? Give it either a table [kind.exec] or a table [kind.push]")]
    NotOneWay(Kind),
    #[error("the schema of its {what} {reason}")]
    Schema { what: &'static str, reason: String },
    #[error("a schema is a table, true, or the name of a file, from where this file is")]
    NoSchema,
    #[error("cannot read {}: {reason}; name a file with a JSON Schema, from where this file is", .file.display())]
    SchemaFile { file: PathBuf, reason: String },
    #[error("the API would refuse the kind {kind}: {reason}")]
    Refused { kind: Kind, reason: String },
    #[error("the example does not fit the schema of its input: {0}")]
    Example(String),
    #[error("{program:?} cannot be run: {hint}")]
    Program { program: String, hint: String },
    #[error("this program cannot run others: let its `main` call `buzzer_worker::guard` first")]
    NoGuard,
    #[error("{0:?} cannot be a variable's name, which has no `=` and is not empty")]
    VariableName(String),
    #[error("the worker's environment has no variable {0}, or no text in it: set it, or take the name out")]
    NoVariable(String),
    #[error("the limit {0} is zero: nothing could ever run")]
    ZeroLimit(&'static str),
    #[error("a service is signed to with one secret: give either `secret_env` or `secret_file`")]
    NotOneSecret,
    #[error("the variable {variable}: {reason}")]
    Secret { variable: String, reason: NotASecret },
    #[error(transparent)]
    SecretFile(InvalidFile),
    #[error("{0:?} is no URL: write a whole one, like \"http://127.0.0.1:3000/render\"")]
    NoUrl(String),
    #[error("this URL cannot be called: {0}")]
    Url(String),
    #[error("a user name or password does not belong into a URL: what is posted is signed, let the service check that")]
    Password,
    #[error(transparent)]
    Build(BuildError),
}

/// A mistake, and at which byte of the file it is.
#[derive(Debug)]
pub(super) struct Misplaced {
    pub(super) at: usize,
    pub(super) mistake: Mistake,
}

impl Mistake {
    pub(super) fn at<T>(self, place: &Spanned<T>) -> Misplaced {
        Misplaced { at: place.span().start, mistake: self }
    }
}
