//! Kinds that a file declares, `worker.toml`: each is run by a program (`exec`) or by a service (`push`).
//!
//! `docs/guides/write-a-worker.md` is its manual. What is wrong with it is told at the start, with file and line.

mod contract;
mod kind;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use buzzer_shared::contract::examine;
use buzzer_shared::from_file::{FromFile, InvalidFile};
use buzzer_shared::kind::Kind;
use buzzer_shared::webhook::{NotASecret, Secret};
use serde_json::Value;
use toml::Spanned;
use url::Url;

use self::contract::Contract;
use self::kind::{DeclaredKind, Work};
use self::table::{ExecTable, File, KindTable, Memory, PushTable, Size};
use crate::builder::{BuildError, WorkerBuilder};
use crate::exec::{self, Environment, Limits, Program};
use crate::handler::HandlerOptions;
use crate::push::Service;

/// By this key the parser hands over a date, which JSON has not.
const DATE: &str = "$__toml_private_datetime";

/// The kinds that a file declares. On the command line, and in the environment, stands the name of the file; an empty
/// one declares nothing. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Declared(Arc<[Arc<DeclaredKind>]>);

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
    #[error(transparent)]
    Build(BuildError),
}

impl Declared {
    /// Adds them to what a worker runs.
    pub(crate) fn register(&self, worker: WorkerBuilder) -> WorkerBuilder {
        self.0.iter().fold(worker, |worker, kind| kind.register(worker))
    }

    fn read(file: &Path) -> Result<Self, DeclaredError> {
        let unreadable = |source| DeclaredError::Unreadable { file: file.into(), source };
        let text = fs::read_to_string(file).map_err(unreadable)?;
        // A run has a directory of its own: what is named here must be found from there, too.
        let folder = fs::canonicalize(file).map_err(unreadable)?.parent().map(Path::to_path_buf).unwrap_or_default();
        let source = Source { file, text: &text, folder };
        source.kinds().map_err(|Misplaced { at, mistake }| DeclaredError::Mistake {
            file: file.into(),
            line: source.line(at),
            mistake,
        })
    }
}

impl FromStr for Declared {
    type Err = DeclaredError;

    /// Reads the file of this name.
    fn from_str(name: &str) -> Result<Self, DeclaredError> {
        if name.is_empty() { Ok(Self::default()) } else { Self::read(Path::new(name)) }
    }
}

/// A mistake, and at which byte of the file it is.
#[derive(Debug)]
struct Misplaced {
    at: usize,
    mistake: Mistake,
}

impl Mistake {
    fn at<T>(self, place: &Spanned<T>) -> Misplaced {
        Misplaced { at: place.span().start, mistake: self }
    }
}

/// The file as it was read.
struct Source<'a> {
    /// As it was named.
    file: &'a Path,
    text: &'a str,
    /// Where it is. Absolute.
    folder: PathBuf,
}

impl Source<'_> {
    /// The line in which a byte stands.
    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    /// Where a file is that is named in this one.
    fn path(&self, name: &str) -> PathBuf {
        // Without the dots in the middle.
        self.folder.join(name).components().collect()
    }

    fn kinds(&self) -> Result<Declared, Misplaced> {
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
        let input = self.contract("input", table.input)?;
        let output = self.contract("output", table.output)?;
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
    fn contract(&self, what: &'static str, written: Option<Spanned<Value>>) -> Result<Contract, Misplaced> {
        let Some(written) = written else { return Ok(Contract::default()) };
        let schema = match written.as_ref() {
            Value::String(name) => self.schema(name).map_err(|mistake| mistake.at(&written))?,
            Value::Object(_) | Value::Bool(_) => plain(written.as_ref().clone()),
            _ => return Err(Mistake::NoSchema.at(&written)),
        };
        Contract::new(schema).map_err(|reason| Mistake::Schema { what, reason }.at(&written))
    }

    fn schema(&self, name: &str) -> Result<Value, Mistake> {
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
        service.map_err(|error| Mistake::Url(error.to_string()).at(&url))
    }

    fn secret_of_file(&self, name: &str) -> Result<Secret, Mistake> {
        let file = self.path(name);
        let read = file.to_string_lossy().parse::<FromFile<Secret>>();
        read.map(|secret| Secret::clone(&secret)).map_err(Mistake::SecretFile)
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buzzer_shared::retry::RetryPolicy;
    use tempfile::TempDir;

    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    /// A folder with a script, a schema and a secret in it.
    fn folder() -> TempDir {
        use std::os::unix::fs::PermissionsExt;
        // The test itself is no guard.
        assert!(exec::guard().is_none());
        let folder = TempDir::new().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("run.sh", "#!/bin/sh\n");
        write("plain.txt", "no program");
        write("schema.json", r#"{"type": "integer"}"#);
        write("broken.json", "{");
        write("secret", SECRET);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path().join("run.sh"), executable).unwrap();
        folder
    }

    fn read(text: &str) -> Result<Declared, String> {
        let folder = folder();
        let file = folder.path().join("worker.toml");
        fs::write(&file, text).unwrap();
        let read = file.to_str().unwrap().parse::<Declared>();
        let folder = folder.path().display().to_string();
        let told = |error: DeclaredError| {
            error.to_string().replace(&format!("{}, ", file.display()), "").replace(&folder, "<folder>")
        };
        read.map_err(told)
    }

    fn kind(text: &str) -> Arc<DeclaredKind> {
        let declared = read(text).unwrap();
        assert_eq!(declared.0.len(), 1);
        Arc::clone(&declared.0[0])
    }

    fn program(kind: &DeclaredKind) -> &Program {
        match &kind.work {
            Work::Exec(program) => program,
            Work::Push(_) => panic!("a service"),
        }
    }

    #[test]
    fn a_program_has_defaults() {
        let kind = kind("[[kind]]\nname = 'a'\n[kind.exec]\nprogram = './run.sh'\n");
        let program = program(&kind);
        assert!(program.path.is_absolute() && program.path.ends_with("run.sh"), "{program:?}");
        assert!(program.args.is_empty() && program.environment.0.is_empty());
        let cores = u16::try_from(std::thread::available_parallelism().unwrap().get()).ok();
        assert_eq!(kind.options.slots, cores);
        let expected = Limits {
            memory: Some(2 << 30),
            cpu: None,
            files: 256,
            stdout: 16 << 20,
            line: 2 << 20,
            grace: Duration::from_secs(2),
        };
        assert_eq!(program.limits, expected);
        assert_eq!((&kind.input.schema, &kind.output.schema), (&Value::Bool(true), &Value::Bool(true)));
    }

    #[test]
    fn all_that_can_be_said_is_read() {
        let kind = kind(
            r#"
            [[kind]]
            name = "image.thumbnail"
            title = "Make it small"
            description = "Makes it small."
            input = { type = "object", properties = { width = { type = "integer", maximum = 10 } } }
            output = "schema.json"
            example = { width = 7, at = 2026-11-22 }
            timeout = "90s"
            slots = 3
            retry = { max_attempts = 2 }
            delivery = "at_least_once"

            [kind.exec]
            program = "sh"
            args = ["-c", "true"]
            env = { A = "1", B = "2" }
            pass_env = ["PATH"]
            memory = "unlimited"
            cpu = "1500ms"
            files = 32
            stdout = 1000
            line = "1KiB"
            grace = "0s"
            "#,
        );
        let options = &kind.options;
        assert_eq!(
            (options.title.as_deref(), options.description.as_str()),
            (Some("Make it small"), "Makes it small.")
        );
        assert_eq!(options.example, Some(serde_json::json!({ "width": 7, "at": "2026-11-22" })));
        assert_eq!((options.timeout.as_millis(), options.slots), (90_000, Some(3)));
        assert_eq!(options.retry, Some(RetryPolicy { max_attempts: 2, ..RetryPolicy::default() }));
        assert_eq!(kind.output.schema, serde_json::json!({ "type": "integer" }));
        let Program { path, args, environment, limits } = program(&kind);
        assert!(path.is_absolute() && path.ends_with("sh"), "{path:?}");
        assert_eq!(args, &["-c", "true"]);
        assert_eq!((environment.0["A"].as_str(), environment.0["B"].as_str()), ("1", "2"));
        assert_eq!((&environment.0["PATH"], environment.0.len()), (&std::env::var("PATH").unwrap(), 3));
        let expected =
            Limits { memory: None, cpu: Some(2), files: 32, stdout: 1000, line: 1024, grace: Duration::ZERO };
        assert_eq!(limits, &expected);
    }

    #[test]
    fn services_have_a_secret_of_a_file_or_a_variable() {
        for secret in ["secret_file = 'secret'", "secret_env = 'BUZZER_TEST_SECRET'"] {
            let text = format!("[[kind]]\nname = 'a'\n[kind.push]\nurl = 'http://127.0.0.1:1/'\n{secret}\n");
            match read(&text) {
                Ok(declared) => assert!(matches!(declared.0[0].work, Work::Push(_))),
                // Nothing sets it here.
                Err(error) => assert!(error.contains("no variable BUZZER_TEST_SECRET") && secret.contains("env")),
            }
        }
        let error = read("[[kind]]\nname = 'a'\n[kind.push]\nurl = 'http://a/'\nsecret_env = 'PATH'\n").unwrap_err();
        assert!(error.starts_with("line 5: the variable PATH: the secret of a webhook is `whsec_`"), "{error}");
        assert!(!error.contains("/bin"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let exec = "[kind.exec]\nprogram = './run.sh'\n";
        let head = "[[kind]]\nname = 'a'\n";
        let push = "[kind.push]\nurl = 'http://127.0.0.1:1/'\n";
        for (text, expected) in [
            ("kind = 7".into(), "line 1: "),
            ("[[kind]]\nname = 'a'\nname = 'b'\n".into(), "line 3: duplicate key"),
            ("[[kinds]]\n".into(), "line 1: unknown field `kinds`"),
            (format!("{head}{exec}args = '--fast'\n"), "line 5: invalid type: string \"--fast\", expected a sequence"),
            ("[kind]\nname = 'a'\n".into(), "each kind begins with [[kind]], in double brackets"),
            ("[[kind]]\ntitle = 'x'\n".into(), "line 1: missing field `name`"),
            ("[[kind]]\nname = 'No Kind'\n".into(), "line 2: \"No Kind\" cannot name a kind"),
            (format!("{head}colour = 1\n{exec}"), "line 3: unknown field `colour`"),
            (format!("{head}timeout = 'soon'\n{exec}"), "line 3: \"soon\" is not a length of time"),
            (format!("{head}timeout = '0s'\n{exec}"), "line 2: the kind a has no time to run"),
            (format!("{head}slots = 0\n{exec}"), "line 2: the kind a has no slots"),
            (format!("{head}slots = -1\n{exec}"), "line 3: "),
            (format!("{head}retry = {{ max_attempts = 0 }}\n{exec}"), "line 2: the kind a has no attempts"),
            (format!("{head}delivery = 'once'\n{exec}"), "line 3: unknown variant `once`"),
            (
                format!("{head}delivery = 'at_most_once'\nretry = {{ max_attempts = 2 }}\n{exec}"),
                "line 2: the kind a is run at most once, so it is never tried again",
            ),
            (format!("{head}input = 7\n{exec}"), "line 3: a schema is a table, true, or the name of a file"),
            (format!("{head}input = 'no.json'\n{exec}"), "line 3: cannot read"),
            (format!("{head}output = 'broken.json'\n{exec}"), "line 3: cannot read"),
            (format!("{head}output = {{ type = 'text' }}\n{exec}"), "line 3: the schema of its output cannot be used"),
            (
                format!("{head}input = {{ minimum = 2, maximum = 1 }}\n{exec}"),
                "line 3: the schema of its input contradicts itself",
            ),
            (format!("{head}title = '{}'\n{exec}", "x".repeat(300)), "line 2: the API would refuse the kind a"),
            (format!("{head}input = 'schema.json'\nexample = 'x'\n{exec}"), "line 4: the example does not fit"),
            (head.into(), "line 2: who runs the kind a?"),
            (format!("{head}{exec}{push}secret_file = 'secret'\n"), "line 2: who runs the kind a?"),
            (format!("{head}{exec}{head}{exec}"), "line 6: the kind a is declared twice"),
            (format!("{head}[kind.exec]\n"), "line 3: missing field `program`"),
            (format!("{head}{exec}shell = true\n"), "line 5: unknown field `shell`"),
            (
                format!("{head}[kind.exec]\nprogram = './no.sh'\n"),
                "line 4: \"./no.sh\" cannot be run: there is no file <folder>/no.sh",
            ),
            (
                format!("{head}[kind.exec]\nprogram = './plain.txt'\n"),
                "line 4: \"./plain.txt\" cannot be run: it is no program yet, `chmod +x ",
            ),
            (
                format!("{head}[kind.exec]\nprogram = 'no-such-program'\n"),
                "line 4: \"no-such-program\" cannot be run: it is not on the worker's PATH",
            ),
            (
                format!("{head}[kind.exec]\nprogram = './run.sh --fast'\n"),
                "line 4: \"./run.sh --fast\" cannot be run: it has a space in it",
            ),
            (format!("{head}[kind.exec]\nprogram = '../'\n"), "is a directory: name a file in it"),
            (
                format!("{head}[kind.push]\nurl = 'example.com/x'\n"),
                "line 4: \"example.com/x\" is no URL: write a whole one",
            ),
            (
                format!("{head}{exec}memory = '1MB'\n"),
                "line 5: \"1MB\" is not a size, like 1MiB, 512KiB or 100000, or `unlimited`",
            ),
            (format!("{head}{exec}memory = '0'\n"), "line 4: the limit memory is zero"),
            (format!("{head}{exec}cpu = '0s'\n"), "line 4: the limit cpu is zero"),
            (format!("{head}{exec}files = 0\n"), "line 4: the limit files is zero"),
            (format!("{head}{exec}line = 0\n"), "line 4: the limit line is zero"),
            (format!("{head}{exec}stdout = 'much'\n"), "line 5: "),
            (
                format!("{head}{exec}pass_env = ['BUZZER_NO_SUCH']\n"),
                "line 5: the worker's environment has no variable",
            ),
            (format!("{head}{exec}pass_env = ['A=B']\n"), "line 5: \"A=B\" cannot be a variable's name"),
            (format!("{head}{exec}env = {{ 'A=B' = '1' }}\n"), "line 5: \"A=B\" cannot be a variable's name"),
            (format!("{head}{push}"), "line 4: a service is signed to with one secret"),
            (format!("{head}{push}secret_file = 'secret'\nanswer = 0\n"), "line 4: the limit answer is zero"),
            (format!("{head}{push}secret_file = 'no'\n"), "line 5: cannot read"),
            (format!("{head}{push}secret_file = 'plain.txt'\n"), "does not hold this setting: the secret of a webhook"),
            (
                format!("{head}[kind.push]\nurl = '/render'\nsecret_file = 'secret'\n"),
                "line 4: \"/render\" is no URL: write a whole one",
            ),
            (
                format!("{head}[kind.push]\nurl = 'invoices.internal:8000/render'\nsecret_file = 'secret'\n"),
                "line 4: \"invoices.internal:8000/render\" is no URL: write a whole one",
            ),
            (format!("{head}[[kind.exec]]\nprogram = './run.sh'\n"), "like [kind.exec], in single brackets"),
            (format!("{head}[[kind.push]]\nurl = 'http://a/'\n"), "like [kind.exec], in single brackets"),
            (
                format!("{head}input = {{ type = 'text' }}\n{exec}"),
                "\"text\" is neither a type of JSON nor a list of different ones: array, boolean",
            ),
            (
                format!("{head}description = '{}'\n{exec}", "x".repeat(5 << 20)),
                "line 2: the API would refuse the kind a: it has 52",
            ),
            (
                format!("{head}[kind.push]\nurl = 'ftp://a/'\nsecret_file = 'secret'\n"),
                "line 4: this URL cannot be called: only http and https",
            ),
        ] {
            let error = read(&text).expect_err(&text);
            assert!(error.contains(expected), "{text}\n{error}");
            assert_eq!(error.contains("double brackets"), expected.contains("double brackets"), "{error}");
            assert!(!error.contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named_and_none_declares_nothing() {
        let error = "/no/such/worker.toml".parse::<Declared>().unwrap_err().to_string();
        assert!(error.starts_with("cannot read /no/such/worker.toml"), "{error}");
        assert!("".parse::<Declared>().unwrap().0.is_empty());
        assert!(read("").unwrap().0.is_empty());
    }
}
