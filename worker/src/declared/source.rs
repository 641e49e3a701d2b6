//! The file, read line by line into kinds: what is wrong is found at its place.

use std::fs::{self, File as OpenFile};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use buzzer_shared::contract::examine;
use buzzer_shared::from_file::FromFile;
use buzzer_shared::webhook::Secret;
use serde_json::Value;
use toml::Spanned;
use url::Url;

use super::Declared;
use super::kind::{DeclaredKind, Work};
use super::mistake::{Misplaced, Mistake};
use super::schema::Schema;
use super::table::{ExecTable, File, KindTable, Memory, PushTable, Size};
use crate::builder::WorkerBuilder;
use crate::egress::EgressError;
use crate::exec::{self, Environment, Limits, Program};
use crate::handler::HandlerOptions;
use crate::push::Service;

/// By this key the parser hands over a date, which JSON has not.
const DATE: &str = "$__toml_private_datetime";

/// So much of a script's first line is read, in bytes: more than systems do.
const FIRST_LINE_MAX: u64 = 512;

/// The file as it was read.
pub(super) struct Source<'a> {
    /// As it was named.
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    /// Where it is. Absolute.
    pub(super) folder: PathBuf,
}

impl Source<'_> {
    /// The line in which a byte stands.
    pub(super) fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    /// Where a file is that is named in this one.
    fn path(&self, name: &str) -> PathBuf {
        // Without the dots in the middle.
        self.folder.join(name).components().collect()
    }

    pub(super) fn kinds(&self) -> Result<Declared, Misplaced> {
        let file: File = toml::from_str(self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = self.text.lines().nth(self.line(at) - 1).unwrap_or_default();
            Misplaced { at, mistake: Mistake::Toml(told(error.message(), line)) }
        })?;
        let mut kinds: Vec<Arc<DeclaredKind>> = Vec::new();
        for table in file.kind {
            let place = table.name.clone();
            let kind = Arc::new(self.kind(table)?);
            if kinds.iter().any(|other| other.name == kind.name) {
                return Err(Mistake::Twice(kind.name.clone()).at(&place));
            }
            // What a worker would refuse is told here, with its line, and so is what the API would.
            let tried = kind.register(WorkerBuilder::default()).registry();
            let registry = tried.map_err(|error| Mistake::Build(error).at(&place))?;
            for spec in registry.specs() {
                examine(&spec).map_err(|reason| Mistake::Refused { kind: spec.name, reason }.at(&place))?;
            }
            kinds.push(kind);
        }
        Ok(Declared(kinds.into()))
    }

    fn kind(&self, table: KindTable) -> Result<DeclaredKind, Misplaced> {
        let name = table.name;
        let place = format!("{}, line {}", self.file.display(), self.line(name.span().start));
        let input = self.schema("input", table.input)?;
        let output = self.schema("output", table.output)?;
        let mut options = HandlerOptions::new().description(table.description);
        options.title = table.title;
        options.retry = table.retry.map(|retry| retry.policy());
        // A program keeps a core busy, and takes memory; a service does that elsewhere.
        let cores = || std::thread::available_parallelism().ok().and_then(|cores| u16::try_from(cores.get()).ok());
        options.slots = if table.exec.is_some() { table.slots.or_else(cores) } else { table.slots };
        options.delivery = table.delivery;
        options.timeout = table.timeout.unwrap_or(options.timeout);
        if let Some(example) = table.example {
            let value = plain(example.as_ref().clone());
            if let Some(misfit) = input.misfit(value.to_string().as_bytes()) {
                return Err(Mistake::Example(misfit).at(&example));
            }
            options = options.example(value);
        }
        let work = match (table.exec, table.push) {
            (Some(exec), None) => Work::Exec(self.program(exec)?),
            (None, Some(push)) => Work::Push(self.service(push)?),
            _ => return Err(Mistake::NotOneWay(name.as_ref().clone()).at(&name)),
        };
        Ok(DeclaredKind { name: name.into_inner(), options, input, output, work, place })
    }

    /// Any JSON where nothing is said.
    fn schema(&self, what: &'static str, written: Option<Spanned<Value>>) -> Result<Schema, Misplaced> {
        let Some(written) = written else { return Ok(Schema::default()) };
        let schema = match written.as_ref() {
            Value::String(name) => self.of_file(name).map_err(|mistake| mistake.at(&written))?,
            Value::Object(_) | Value::Bool(_) => plain(written.as_ref().clone()),
            _ => return Err(Mistake::NoSchema.at(&written)),
        };
        Schema::new(schema).map_err(|reason| Mistake::Schema { what, reason }.at(&written))
    }

    fn of_file(&self, name: &str) -> Result<Value, Mistake> {
        let file = self.path(name);
        let read = fs::read(&file).map_err(|error| error.to_string());
        let schema = read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
        schema.map_err(|reason| Mistake::SchemaFile { file, reason })
    }

    /// Why a program that was not found cannot be run, and what to do.
    fn not_runnable(&self, program: &str) -> Mistake {
        let path = self.path(program);
        let name = program.rsplit('/').next().unwrap_or(program);
        let hint = if name.contains(char::is_whitespace) && !path.exists() {
            "it has a space in it: what stands behind the program's name goes into `args`".into()
        } else if !program.contains('/') {
            "it is not on the worker's PATH: install it, or name it with a slash, from where this file is".into()
        } else if path.is_dir() {
            format!("{} is a directory: name a file in it", path.display())
        } else if path.exists() {
            format!("it is no program yet, `chmod +x {}` makes it one", path.display())
        } else {
            format!("there is no file {}", path.display())
        };
        Mistake::Program { program: program.into(), hint }
    }

    fn program(&self, table: ExecTable) -> Result<Program, Misplaced> {
        let program = &table.program;
        if !exec::is_possible() {
            return Err(Mistake::NoGuard.at(program));
        }
        let path = which::which_in(program.as_ref(), std::env::var_os("PATH"), &self.folder)
            .map_err(|_| self.not_runnable(program.as_ref()).at(program))?;
        if let Some(hint) = without_interpreter(&path) {
            return Err(Mistake::Program { program: program.as_ref().clone(), hint }.at(program));
        }
        let limits = limits(&table).map_err(|mistake| mistake.at(program))?;
        let mut environment = Environment::default();
        for name in table.pass_env {
            let value = variable(name.as_ref()).map_err(|mistake| mistake.at(&name))?;
            environment.0.insert(name.into_inner(), value);
        }
        for (name, value) in table.env {
            if !is_name(name.as_ref()) {
                return Err(Mistake::VariableName(name.as_ref().clone()).at(&name));
            }
            environment.0.insert(name.into_inner(), value);
        }
        Ok(Program { path, args: table.args, environment, limits })
    }

    fn service(&self, table: PushTable) -> Result<Service, Misplaced> {
        let url = table.url;
        let called = whole_url(url.as_ref()).ok_or_else(|| Mistake::NoUrl(url.as_ref().clone()).at(&url))?;
        let secret = match (table.secret_env, table.secret_file) {
            (Some(name), None) => secret_of_variable(name.as_ref()).map_err(|mistake| mistake.at(&name))?,
            (None, Some(name)) => self.secret_of_file(name.as_ref()).map_err(|mistake| mistake.at(&name))?,
            _ => return Err(Mistake::NotOneSecret.at(&url)),
        };
        if table.answer.0 == 0 {
            return Err(Mistake::ZeroLimit("answer").at(&url));
        }
        let service = Service::new(called, secret, table.answer.0);
        service.map_err(|error| match error {
            EgressError::Credentials => Mistake::Password.at(&url),
            error => Mistake::Url(error.to_string()).at(&url),
        })
    }

    fn secret_of_file(&self, name: &str) -> Result<Secret, Mistake> {
        let file = self.path(name);
        let read = file.to_string_lossy().parse::<FromFile<Secret>>();
        read.map(|secret| Secret::clone(&secret)).map_err(Mistake::SecretFile)
    }
}

/// Why the interpreter in a script's first line cannot run it, if that can be told: the system says of the script itself
/// that there is no such file.
fn without_interpreter(script: &Path) -> Option<String> {
    let mut start = Vec::new();
    // What may be run but not read is no script.
    OpenFile::open(script).ok()?.take(FIRST_LINE_MAX).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    if line.ends_with(b"\r") {
        return Some(
            "its lines end as on Windows, so that its first one names no interpreter: save it with Unix ends".into(),
        );
    }
    let interpreter = line.trim_ascii_start().split(|byte| b" \t".contains(byte)).next()?;
    let interpreter = String::from_utf8_lossy(interpreter);
    let path = Path::new(interpreter.as_ref());
    let is_missing = path.is_absolute() && !path.exists();
    is_missing.then(|| format!("its first line names {interpreter}, which is not there: install it, or name another"))
}

/// What the parser says of a line, on one.
fn told(message: &str, line: &str) -> String {
    let message = message.replace('\n', "; ");
    // It does not know how tables are written, and lists of them.
    if message.contains("invalid type: map, expected a sequence") {
        message + "; each kind begins with [[kind]], in double brackets"
    } else if line.trim_start().starts_with("[[kind.") {
        message + "; a table of a kind begins like [kind.exec], in single brackets"
    } else {
        message
    }
}

/// `None` for what lacks its beginning: of `host:8000/` the host would be taken for a scheme.
fn whole_url(text: &str) -> Option<Url> {
    text.parse().ok().filter(|_| text.contains("://"))
}

fn secret_of_variable(name: &str) -> Result<Secret, Mistake> {
    let text = variable(name)?;
    text.trim().parse().map_err(|reason| Mistake::Secret { variable: name.into(), reason })
}

/// A variable of this process's environment.
fn variable(name: &str) -> Result<String, Mistake> {
    if !is_name(name) {
        return Err(Mistake::VariableName(name.into()));
    }
    std::env::var(name).map_err(|_| Mistake::NoVariable(name.into()))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

fn limits(table: &ExecTable) -> Result<Limits, Mistake> {
    let memory = match table.memory {
        Memory::Unlimited => None,
        Memory::Most(bytes) => Some(bytes),
    };
    // The system counts whole seconds.
    let cpu = table.cpu.map(|cpu| cpu.as_millis().div_ceil(1000));
    let (Size(stdout), Size(line)) = (table.stdout, table.line);
    for (name, is_zero) in [
        ("memory", memory == Some(0)),
        ("cpu", cpu == Some(0)),
        ("files", table.files == 0),
        ("stdout", stdout == 0),
        ("line", line == 0),
    ] {
        if is_zero {
            return Err(Mistake::ZeroLimit(name));
        }
    }
    Ok(Limits { memory, cpu, files: table.files, stdout, line, grace: table.grace.as_duration() })
}

/// The same as JSON has it: a date is its text.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(mut map) => match map.remove(DATE) {
            Some(date) => date,
            None => map.into_iter().map(|(name, value)| (name, plain(value))).collect(),
        },
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}
