//! What a worker tells: announcements, beats, signals.

use std::time::Duration;

use buzzer_shared::broker::Line;
use buzzer_shared::message::{Control, Pulse, RunResult, Signal, SignalBody, TOLD_MAX, Told};
use buzzer_shared::time::{Span, Time};
use buzzer_worker::{JobContext, JobError, StockConfig, Worker, WorkerConfig, stock_worker};

use crate::holding::gate;
use crate::stage::stage;

#[tokio::test(start_paused = true)]
async fn it_announces_when_asked() {
    // So rare a beat that only the question can be the cause.
    let config = WorkerConfig { beat: Span::from_secs(3600), ..WorkerConfig::default() };
    let mut stage = stage(stock_worker(&StockConfig { worker: config, demo: true, ..StockConfig::default() })).await;
    let announced = stage.announced.clone();
    assert_eq!(announced.kinds.len(), 7);
    assert!(!announced.host.is_empty() && !announced.version.is_empty());
    stage.say(Control::Announce).await;
    assert_eq!(stage.pulse().await, Pulse::Announce(announced));
}

#[tokio::test(start_paused = true)]
async fn it_announces_and_beats_when_the_line_is_back() {
    let config = WorkerConfig { beat: Span::from_secs(3600), ..WorkerConfig::default() };
    let mut stage = stage(stock_worker(&StockConfig { worker: config, ..StockConfig::default() })).await;
    stage.line.pretend(Line::Away("cable cut".into()));
    tokio::task::yield_now().await;
    stage.line.pretend(Line::Up);
    assert!(matches!(stage.pulse().await, Pulse::Announce(_)));
    assert!(matches!(stage.pulse().await, Pulse::Beat(beat) if !beat.leaving));
}

#[tokio::test(start_paused = true)]
async fn it_beats_with_what_it_holds_and_announces_with_every_sixth_beat() {
    let (worker, mut gate) = gate(4);
    let mut stage = stage(worker).await;
    let (one, two) = (stage.request("gate", "1"), stage.request("gate", "2"));
    for request in [&one, &two] {
        stage.send(request).await;
        gate.called().await;
    }
    let before = tokio::time::Instant::now();
    for _ in 0..6 {
        let Pulse::Beat(mut beat) = stage.pulse().await else { panic!("an announcement too early") };
        beat.held.sort_by_key(|run| run.job);
        assert_eq!((beat.held, beat.leaving), (vec![one.run, two.run], false));
    }
    assert!(matches!(stage.pulse().await, Pulse::Announce(_)));
    assert_eq!(before.elapsed().as_secs().next_multiple_of(5), 30);
}

#[tokio::test(start_paused = true)]
async fn a_short_run_sends_no_signal() {
    async fn quick(ctx: JobContext, _: u32) -> Result<(), JobError> {
        ctx.progress(50.0, "half");
        tokio::time::sleep(Duration::from_millis(40)).await;
        Ok(())
    }
    let mut stage = stage(Worker::builder().handler("quick", quick)).await;
    let outcome = stage.run("quick", "1").await;
    assert!(outcome.started_at.is_some_and(|at| at > Time::from_millis(0)));
    let half = SignalBody::Progress { percent: Some(50.0), message: Some("half".into()) };
    assert!(matches!(&outcome.told[..], [Told { n: 1, body, .. }] if *body == half), "{:?}", outcome.told);
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert_eq!(stage.signals_here(), []);
}

#[tokio::test(start_paused = true)]
async fn progress_is_numbered_and_at_most_ten_a_second() {
    async fn chatty(ctx: JobContext, reports: u32) -> Result<(), JobError> {
        for n in 1..=reports {
            tokio::time::sleep(Duration::from_millis(1)).await;
            ctx.progress(f64::from(n) / f64::from(reports) * 100.0, format!("{n}"));
        }
        Ok(())
    }
    let mut stage = stage(Worker::builder().handler("chatty", chatty)).await;
    let run = stage.request("chatty", "1000");
    stage.send(&run).await;
    let first = stage.signal().await;
    assert_eq!((first.run, first.n, &first.body), (run.run, 1, &SignalBody::Started));
    let outcome = stage.outcome().await;
    assert!(matches!(outcome.result, RunResult::Succeeded(_)));
    stage.shutdown.request();
    stage.ended().await.unwrap();

    let rest: Vec<_> =
        stage.signals_here().into_iter().map(|Signal { n, at, body, .. }| Told { n, at, body }).collect();
    assert!((7..9).contains(&rest.len()), "{} signals in one second", rest.len() + 1);
    // The outcome carries them once more, and what was not sent any more.
    let (again, unsent) = outcome.told.split_at(outcome.told.len() - 1);
    assert!(rest.ends_with(again) && again.len() >= 7, "{again:?} of {rest:?}");
    let all: Vec<_> = rest.iter().chain(unsent).collect();
    assert_eq!(all.iter().map(|told| told.n).collect::<Vec<_>>(), (2..2 + all.len() as u32).collect::<Vec<_>>());
    let percents: Vec<f64> = all
        .iter()
        .map(|told| match &told.body {
            SignalBody::Progress { percent: Some(percent), message: Some(_) } => *percent,
            other => panic!("not a progress: {other:?}"),
        })
        .collect();
    assert!(percents.is_sorted(), "{percents:?}");
    assert_eq!(percents.last(), Some(&100.0), "the last word is told");
}

#[tokio::test(start_paused = true)]
async fn log_and_output_are_signals_in_their_order() {
    async fn writer(ctx: JobContext, (): ()) -> Result<(), JobError> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ctx.log("one");
        ctx.log("two");
        ctx.output("Once upon");
        ctx.output(" a time");
        tokio::time::sleep(Duration::from_secs(5)).await;
        ctx.log("the end");
        Ok(())
    }
    let mut stage = stage(Worker::builder().handler("writer", writer)).await;
    stage.send(&stage.request("writer", "null")).await;
    assert_eq!(stage.signal().await.body, SignalBody::Started);
    assert_eq!(stage.signal().await.body, SignalBody::Log { text: "one\ntwo".into() });
    assert_eq!(stage.signal().await.body, SignalBody::Output { chunk: "Once upon a time".into() });
    let told = stage.outcome().await.told;
    let end = SignalBody::Log { text: "the end".into() };
    assert!(matches!(&told[..], [Told { n: 4, body, .. }] if *body == end), "only what is young: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_an_outcome_carries_is_bounded_and_the_newest() {
    async fn flood(ctx: JobContext, (): ()) -> Result<(), JobError> {
        for n in 0..10_000 {
            ctx.log(format!("{n} \u{1}"));
        }
        Ok(())
    }
    let mut stage = stage(Worker::builder().handler("flood", flood)).await;
    let outcome = stage.run("flood", "null").await;
    let bytes = serde_json::to_string(&outcome.told).unwrap().len();
    assert!((TOLD_MAX / 2..=TOLD_MAX).contains(&bytes), "{bytes}");
    let last = outcome.told.last().unwrap();
    assert!(matches!(&last.body, SignalBody::Log { text } if text.contains("left out")), "{last:?}");
}
