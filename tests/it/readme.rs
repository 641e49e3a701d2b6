//! The README does what it shows: its commands are run, and what comes out is compared with what stands there.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use buzzer_tests::compose::free_port;
use buzzer_tests::outside::Outside;
use buzzer_tests::python;
use regex::Regex;

const LIMIT: Duration = Duration::from_secs(60);
/// Where the README's system listens; the test's own takes a free port.
const ADDRESS: &str = "127.0.0.1:8080";
/// Where its receiver of webhooks does.
const RECEIVER: &str = "127.0.0.1:3000";

/// A command of the README with the output that stands under it.
#[derive(Debug)]
struct Shown {
    section: String,
    command: String,
    output: String,
}

/// The commands in the README's `console` blocks.
fn shown(readme: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    let (mut inside, mut section) = (false, "");
    for line in readme.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match (line.strip_prefix("$ "), all.last_mut()) {
                (Some(command), _) => {
                    all.push(Shown { section: section.into(), command: command.into(), output: String::new() });
                }
                (None, Some(last)) => last.output += &format!("{}\n", line.trim_end()),
                (None, None) => panic!("output without a command: {line}"),
            },
            (false, line) => section = line.strip_prefix("## ").unwrap_or(section),
        }
    }
    all
}

/// What changes from run to run is made the same; ids are numbered in the order in which they appear.
fn normal(text: &str) -> String {
    let moment = Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z").unwrap();
    let date = Regex::new(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT").unwrap();
    let text = text.replace('\r', "");
    let text = text.lines().map(|line| line.trim_end().to_owned() + "\n").collect::<String>();
    let text = moment.replace_all(&text, "MOMENT");
    ids().replace_all(&date.replace_all(&text, "DATE"), "ID").into_owned()
}

/// Ids of jobs, of webhooks and what is told, API keys and their ids, tickets, secrets.
fn ids() -> Regex {
    let job = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}";
    Regex::new(&format!(r"{job}|b[zt]_[0-9A-Za-z_-]{{43}}|whsec_[0-9A-Za-z+/]{{43}}=|\b[0-9a-f]{{12}}\b")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_shows_what_really_comes_out() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let python = python::with(&["standardwebhooks", "websockets"]).await;
    // As the README starts it where it needs the most.
    let system = Outside::up(&[("BUZZER_DEMO", "1"), ("BUZZER_EGRESS_ALLOW", "127.0.0.0/8")]).await;
    system.knows("http.request").await;
    let guarded = Outside::up(&[("BUZZER_DEMO", "1"), ("BUZZER_AUTH", "keys")]).await;
    let receiver = format!("127.0.0.1:{}", free_port());
    // The README's ids, and those of this run in their place.
    let mut known: HashMap<String, String> = HashMap::new();
    let all = shown(&readme);
    assert!(all.len() > 5, "the README shows {} commands", all.len());
    for Shown { section, command, output } in all {
        let system = if section == "Keys" { &guarded } else { &system };
        let mut command = command.replace(ADDRESS, &system.address().to_string()).replace(RECEIVER, &receiver);
        for (shown, real) in &known {
            command = command.replace(shown, real);
        }
        let real = run(command.clone(), system, &python, &receiver).await;
        let real = real.replace(&system.address().to_string(), ADDRESS).replace(&receiver, RECEIVER);
        let ids = ids();
        let pairs = ids.find_iter(&output).zip(ids.find_iter(&real));
        known.extend(pairs.map(|(shown, real)| (shown.as_str().to_owned(), real.as_str().to_owned())));
        assert_eq!(normal(&real), normal(&output), "{command}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What a shell command prints.
async fn run(command: String, system: &buzzer_tests::outside::Api, python: &Path, receiver: &str) -> String {
    let programs = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{}:{path}", programs.display(), python.parent().unwrap().display());
    let port = receiver.rsplit(':').next().unwrap().to_owned();
    let (server, store) = (format!("http://{}", system.address()), system.store());
    let output = tokio::task::spawn_blocking(move || {
        let mut shell = Command::new("sh");
        shell.current_dir(root());
        shell.args(["-c", &command]).env("PATH", path).env("BUZZER_SERVER", server).env("BUZZER_STORE", store);
        // Where the receiver listens.
        shell.env("PORT", port);
        shell.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap()
    });
    let output = buzzer_tests::wait::within("a command of the README", LIMIT, output).await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}
