//! Kinds that a program runs: its input as JSON on standard input, one JSON object a line on standard output.
//!
//! In reading order: [`mod@line`] is what it may say, [`mod@verdict`] what comes of it, [`mod@guard`] the process that
//! watches over it, [`mod@launch`] the step from there to the program, [`mod@guarded`] the worker's side of that.
//! `docs/guides/write-a-worker.md` is the manual.

mod guard;
mod guarded;
mod launch;
mod line;
mod order;
mod program;
mod tail;
mod verdict;

use buzzer_shared::kind::Kind;
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::Notify;

pub use self::guard::guard;
use self::guarded::{Guarded, Leash, NoEnd};
use self::line::{Line, Told};
use self::order::{Bounds, Order};
pub(crate) use self::program::{Environment, Limits, Program};
use self::tail::Tail;
pub(crate) use self::verdict::broken;
use self::verdict::{Breach, not_started, unguarded, verdict};
use crate::context::JobContext;
use crate::error::JobError;
use crate::handler::RawJson;

/// A line on standard error that is longer becomes several.
const STDERR_LINE: u64 = 4 * 1024;

/// Whether this process can run programs: its `main` has called [`guard()`].
pub(crate) fn is_possible() -> bool {
    guard::is_possible()
}

impl Program {
    /// Runs it once. When this is dropped, the program is ended, and all that it started.
    pub(crate) async fn run(&self, kind: &Kind, ctx: &JobContext, input: &Bytes) -> Result<RawJson, JobError> {
        let order = self.order(kind, ctx, input);
        let guarded = Guarded::start(&order, input).await.map_err(|error| not_started(&error.to_string()))?;
        let Guarded { stdout, stderr, mut leash, mut reports } = guarded;
        let broken = Notify::new();
        let running = async {
            let told = async {
                let told = read_stdout(stdout, &self.limits, ctx).await;
                if told.is_err() {
                    broken.notify_one();
                }
                told
            };
            let (told, stderr) = (async { Ok(told.await) }, async { Ok(read_stderr(stderr, ctx).await) });
            tokio::try_join!(told, stderr, reports.end())
        };
        let ended = tokio::select! {
            ended = running => ended,
            never = stop_if_asked(&mut leash, ctx, &broken) => match never {},
        };
        match ended {
            Ok((told, tail, status)) => verdict(told, status, &tail, &self.limits),
            Err(NoEnd::NotStarted(reason)) => Err(not_started(&reason)),
            Err(NoEnd::Unguarded) => Err(unguarded()),
        }
    }

    fn order(&self, kind: &Kind, ctx: &JobContext, input: &Bytes) -> Order {
        let of_job = [
            ("BUZZER_JOB_ID", ctx.job_id().to_string()),
            ("BUZZER_ATTEMPT", ctx.attempt().to_string()),
            ("BUZZER_KIND", kind.to_string()),
        ];
        let mut environment = self.environment.clone();
        environment.0.extend(of_job.map(|(name, value)| (name.to_owned(), value)));
        Order {
            program: self.path.clone(),
            args: self.args.clone(),
            environment,
            directories: std::env::temp_dir(),
            bounds: Bounds { memory: self.limits.memory, cpu_seconds: self.limits.cpu, files: self.limits.files },
            grace_ms: u64::try_from(self.limits.grace.as_millis()).unwrap_or(u64::MAX),
            input_bytes: input.len() as u64,
        }
    }
}

/// Asks the program to stop once somebody wants that, or it has broken the rules. Never comes back: its end tells more.
async fn stop_if_asked(leash: &mut Leash, ctx: &JobContext, broken: &Notify) -> std::convert::Infallible {
    tokio::select! {
        () = ctx.canceled() => {}
        () = broken.notified() => {}
    }
    leash.pull().await;
    std::future::pending().await
}

/// Hands on what the program tells, until it has closed its standard output, and keeps the end that it told.
async fn read_stdout(
    stdout: impl AsyncRead + Unpin,
    limits: &Limits,
    ctx: &JobContext,
) -> Result<Option<Told>, Breach> {
    let (mut stdout, mut told, mut left) = (BufReader::new(stdout), None, limits.stdout);
    for number in 1.. {
        let mut line = Vec::new();
        let most = limits.line.min(left);
        let room = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        (&mut stdout).take(room).read_until(b'\n', &mut line).await.map_err(Breach::Unreadable)?;
        match line.len() {
            0 => break,
            length if length > left => return Err(Breach::TooMuch { most: limits.stdout }),
            length if length > most => return Err(Breach::LongLine { number, most }),
            length => left -= length,
        }
        let end = match Line::read(&line).map_err(|reason| Breach::not_a_line(number, &line, reason))? {
            Some(line) => hand_on(line, ctx),
            None => None,
        };
        if told.is_some() && end.is_some() {
            return Err(Breach::SecondEnd { number });
        }
        told = told.or(end);
    }
    Ok(told)
}

fn hand_on(line: Line, ctx: &JobContext) -> Option<Told> {
    match line {
        Line::Progress(progress) => ctx.progress(progress.percent, progress.message),
        Line::Log(text) => ctx.log(text),
        Line::Output(chunk) => ctx.output(chunk),
        Line::Result(output) => return Some(Told::Result(String::from(Box::<str>::from(output)).into())),
        Line::Error(reported) => return Some(Told::Error(reported)),
    }
    None
}

/// Makes what the program writes on standard error lines of the job's log, and keeps the last of them.
async fn read_stderr(stderr: impl AsyncRead + Unpin, ctx: &JobContext) -> Tail {
    let (mut stderr, mut tail) = (BufReader::new(stderr), Tail::default());
    loop {
        let mut line = Vec::new();
        match (&mut stderr).take(STDERR_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return tail,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(line.trim_ascii_end());
        if !line.is_empty() {
            ctx.log(&line);
            tail.push(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buzzer_shared::id::JobId;
    use buzzer_shared::message::SignalBody;
    use buzzer_shared::time::Time;

    use super::*;

    const LIMITS: Limits = Limits { memory: None, cpu: None, files: 64, stdout: 100, line: 40, grace: Duration::ZERO };

    fn ctx() -> JobContext {
        JobContext::detached(JobId::new(Time::from_millis(1)), 1, Duration::from_secs(60))
    }

    async fn told(stdout: &str) -> Result<Option<Told>, String> {
        read_stdout(stdout.as_bytes(), &LIMITS, &ctx()).await.map_err(|breach| breach.to_string())
    }

    #[tokio::test]
    async fn what_a_program_tells_is_handed_on_in_its_order() {
        let ctx = ctx();
        let stdout = "{\"log\": \"a\"}\n\n{\"output\": \"b\"}\n{\"result\": 1.50}\n{\"log\": \"c\"}";
        let told = read_stdout(stdout.as_bytes(), &LIMITS, &ctx).await.unwrap();
        assert_eq!(told, Some(Told::Result("1.50".into())));
        let log = |text: &str| SignalBody::Log { text: text.into() };
        assert_eq!(ctx.last_reports(), [log("a"), SignalBody::Output { chunk: "b".into() }, log("c")]);
        assert_eq!(self::told("").await, Ok(None));
    }

    #[tokio::test]
    async fn bounds_hold_to_the_byte() {
        let log = |length: usize| format!("{{\"log\":\"{}\"}}\n", "x".repeat(length - 11));
        assert_eq!(told(&log(40)).await, Ok(None));
        assert!(told(&log(41)).await.unwrap_err().contains("line 1 of its stdout has more than 40 bytes"));
        assert!(told(&"x".repeat(1000)).await.unwrap_err().contains("more than 40 bytes"));
        assert_eq!(told(&log(20).repeat(5)).await, Ok(None));
        let more = told(&[log(20).repeat(5), log(11)].concat()).await.unwrap_err();
        assert!(more.contains("more than 100 bytes to its stdout"), "{more}");
    }

    #[tokio::test]
    async fn there_is_one_end() {
        for second in ["{\"result\": 2}", "{\"error\": {\"detail\": \"x\"}}"] {
            let breach = told(&format!("{{\"result\": 1}}\n{second}\n")).await.unwrap_err();
            assert!(breach.contains("line 2 of its stdout tells a second end"), "{breach}");
        }
    }

    #[tokio::test]
    async fn standard_error_is_log_whatever_its_bytes() {
        let ctx = ctx();
        let stderr = [b"one\r\n\n\xff\n".to_vec(), vec![b'x'; 5000]].concat();
        let tail = read_stderr(&stderr[..], &ctx).await;
        assert!(tail.sentence().ends_with("xxx"), "{}", tail.sentence());
        let told = ctx.last_reports();
        assert_eq!(told[0], SignalBody::Log { text: "one\n\u{fffd}".into() });
        let lengths = told[1..].iter().map(|report| match report {
            SignalBody::Log { text } => text.matches('x').count(),
            other => panic!("{other:?}"),
        });
        assert_eq!(lengths.sum::<usize>(), 5000);
    }
}
