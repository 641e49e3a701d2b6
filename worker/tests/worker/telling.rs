//! What a worker tells: announcements, beats, signals.

use std::time::Duration;

use buzzer_shared::broker::Line;
use buzzer_shared::message::{Control, Pulse, RunResult, SignalBody};
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
    assert_eq!(announced.kinds.len(), 6);
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
    assert!(matches!(stage.outcome().await.result, RunResult::Succeeded(_)));
    stage.shutdown.request();
    stage.ended().await.unwrap();

    let rest = stage.signals_here();
    assert!((7..10).contains(&rest.len()), "{} signals in one second", rest.len() + 1);
    assert_eq!(rest.iter().map(|signal| signal.n).collect::<Vec<_>>(), (2..2 + rest.len() as u32).collect::<Vec<_>>());
    let percents: Vec<f64> = rest
        .iter()
        .map(|signal| match &signal.body {
            SignalBody::Progress { percent: Some(percent), message: Some(_) } => *percent,
            other => panic!("not a progress: {other:?}"),
        })
        .collect();
    assert!(percents.is_sorted(), "{percents:?}");
    assert_eq!(percents.last(), Some(&100.0), "the last word is told");
}
