use std::time::Duration;

use buzzer_shared::retry::RetryPolicy;
use serde_json::Value;
use tempfile::TempDir;

use super::kind::{DeclaredKind, Work};
use super::*;
use crate::exec::{self, Limits, Program};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A folder with a script, a schema and a secret in it.
fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    // The test itself is no guard.
    assert!(exec::guard().is_none());
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("run.sh", "#!/bin/sh\n");
    write("windows.sh", "#!/usr/bin/env python3\r\nprint(1)\r\n");
    write("lost.sh", "#! /no/such/interpreter -x\n");
    write("plain.txt", "no program");
    write("schema.json", r#"{"type": "integer"}"#);
    write("broken.json", "{");
    write("secret", SECRET);
    for script in ["run.sh", "windows.sh", "lost.sh"] {
        fs::set_permissions(folder.path().join(script), fs::Permissions::from_mode(0o755)).unwrap();
    }
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
    assert_eq!((&kind.input.written, &kind.output.written), (&Value::Bool(true), &Value::Bool(true)));
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
    assert_eq!((options.title.as_deref(), options.description.as_str()), (Some("Make it small"), "Makes it small."));
    assert_eq!(options.example, Some(serde_json::json!({ "width": 7, "at": "2026-11-22" })));
    assert_eq!((options.timeout.as_millis(), options.slots), (90_000, Some(3)));
    assert_eq!(options.retry, Some(RetryPolicy { max_attempts: 2, ..RetryPolicy::default() }));
    assert_eq!(kind.output.written, serde_json::json!({ "type": "integer" }));
    let Program { path, args, environment, limits } = program(&kind);
    assert!(path.is_absolute() && path.ends_with("sh"), "{path:?}");
    assert_eq!(args, &["-c", "true"]);
    assert_eq!((environment.0["A"].as_str(), environment.0["B"].as_str()), ("1", "2"));
    assert_eq!((&environment.0["PATH"], environment.0.len()), (&std::env::var("PATH").unwrap(), 3));
    let expected = Limits { memory: None, cpu: Some(2), files: 32, stdout: 1000, line: 1024, grace: Duration::ZERO };
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
            format!("{head}[kind.exec]\nprogram = './windows.sh'\n"),
            "line 4: \"./windows.sh\" cannot be run: its lines end as on Windows",
        ),
        (
            format!("{head}[kind.exec]\nprogram = './lost.sh'\n"),
            "line 4: \"./lost.sh\" cannot be run: its first line names /no/such/interpreter, which is not there",
        ),
        (
            format!("{head}[kind.push]\nurl = 'http://u:p@a.example'\nsecret_file = 'secret'\n"),
            "line 4: a user name or",
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
        (format!("{head}{exec}pass_env = ['BUZZER_NO_SUCH']\n"), "line 5: the worker's environment has no variable"),
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
