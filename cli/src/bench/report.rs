use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::histogram::{self, millis};
use super::phase::Load;
use super::plan::{Learn, Rate};
use super::process::Usage;
use super::raw::Raw;
use super::tally::Tally;
use crate::output;

const MIB: f64 = 1024.0 * 1024.0;

/// What a bench came to. The names are for programs, and stay.
#[derive(Debug, Serialize)]
pub struct Report {
    kind: String,
    input_bytes: usize,
    connections: usize,
    learn: String,
    /// What was asked for; `null` in a closed loop.
    rate_per_second: Option<f64>,
    /// How many were accepted.
    jobs: u64,
    jobs_done: u64,
    jobs_not_succeeded: u64,
    jobs_missing: u64,
    jobs_late: u64,
    busy_answers: u64,
    /// From the first submission to the last end; to the last answer where ends are not learned.
    seconds: f64,
    handed_in_per_second: f64,
    /// `null` where ends are not learned.
    done_per_second: Option<f64>,
    /// `null` where the answer is the result.
    answer_ms: Option<Percentiles>,
    /// `null` where ends are not learned.
    result_ms: Option<Percentiles>,
    processes: BTreeMap<String, Share>,
    /// `null` without `--compare-raw`.
    raw: Option<Raw>,
    /// `done_per_second` over `raw.per_second`, in percent.
    done_to_raw_percent: Option<f64>,
    /// `result_ms.p50` over `raw.p50_ms`.
    p50_to_raw_p50: Option<f64>,
    #[serde(skip)]
    lines: Vec<String>,
}

/// How long it took, in milliseconds: so many of a hundred took no longer.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// What a process and its descendants took while the bench ran.
#[derive(Debug, Clone, Serialize)]
struct Share {
    cpu_seconds: f64,
    cpu_seconds_per_10000: f64,
    memory_mib: f64,
    memory_peak_mib: f64,
}

impl Percentiles {
    const SHARES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];

    fn of(times: &Histogram<u64>) -> Option<Self> {
        let [p50, p90, p99, p999, max] = micros(times).map(|micros| micros as f64 / 1000.0);
        (!times.is_empty()).then_some(Self { p50, p90, p99, p999, max })
    }
}

fn micros(times: &Histogram<u64>) -> [u64; 5] {
    // The value at a quantile is the end of what cannot be told apart; nothing took longer than the longest.
    Percentiles::SHARES.map(|share| times.value_at_quantile(share).min(times.max()))
}

impl Report {
    pub fn new(load: &Load, input_bytes: usize, tally: &Tally, usages: Vec<Usage>, raw: Option<Raw>) -> Self {
        let learns = load.learn != Learn::None;
        let per_second = |count: u64, seconds: f64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let (handing_in, working) = (tally.handing_in().as_secs_f64(), tally.working().as_secs_f64());
        let done_per_second = learns.then(|| per_second(tally.done, working));
        let result_ms = Percentiles::of(&tally.results);
        let raw_share = |raw: &Raw| Some(100.0 * done_per_second? / raw.per_second);
        let raw_times = |raw: &Raw| Some(result_ms?.p50 / raw.p50_ms);
        Self {
            kind: load.kind.to_string(),
            input_bytes,
            connections: load.connections,
            learn: load.learn.to_string(),
            rate_per_second: load.rate.map(Rate::per_second),
            jobs: tally.accepted,
            jobs_done: tally.done,
            jobs_not_succeeded: tally.not_succeeded,
            jobs_missing: tally.under_way,
            jobs_late: tally.late,
            busy_answers: tally.busy,
            seconds: if learns { working } else { handing_in },
            handed_in_per_second: per_second(tally.accepted, handing_in),
            done_per_second,
            answer_ms: Percentiles::of(&tally.answers),
            result_ms,
            processes: usages
                .into_iter()
                .map(|usage| (usage.name.clone(), Share::of(&usage, tally.accepted)))
                .collect(),
            done_to_raw_percent: raw.as_ref().and_then(raw_share),
            p50_to_raw_p50: raw.as_ref().and_then(raw_times),
            raw,
            lines: lines(tally),
        }
    }

    pub fn print(&self, json: bool) -> std::io::Result<()> {
        if json {
            return output::line(serde_json::to_vec(self)?);
        }
        for line in self.text() {
            output::line(line)?;
        }
        Ok(())
    }

    /// For people.
    fn text(&self) -> Vec<String> {
        let Self { kind, input_bytes, connections, learn, jobs, seconds, .. } = self;
        let mut text = vec![format!(
            "{jobs} jobs of {kind} in {seconds:.2} s ({input_bytes} bytes each; connections: {connections}; learn: {learn})"
        )];
        text.push(format!("handed in {:>10.0} /s", self.handed_in_per_second));
        text.extend(self.done_per_second.map(|rate| format!("done      {rate:>10.0} /s")));
        text.extend(self.notes());
        text.extend(self.lines.iter().cloned());
        text.push(String::new());
        text.push(self.shares());
        if let Some(raw) = &self.raw {
            text.push(String::new());
            text.extend(self.comparison(raw));
        }
        text
    }

    /// What is not as it should be.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let (Some(rate), true) = (self.rate_per_second, self.jobs_late > 0) {
            notes.push(format!(
                "{rate} jobs/s could not be held: {} began more than 10 ms after their time, since no connection was free",
                self.jobs_late
            ));
        }
        if self.busy_answers > 0 {
            notes.push(format!("{} answers said 429 or 503, and were asked again", self.busy_answers));
        }
        notes
    }

    fn shares(&self) -> String {
        let rows = self.processes.iter().map(|(name, share)| {
            [
                name.clone(),
                format!("{:.2} s", share.cpu_seconds_per_10000),
                format!("{:.0} MiB", share.memory_mib),
                format!("{:.0} MiB", share.memory_peak_mib),
            ]
        });
        output::table(["PROCESS", "CPU PER 10,000", "MEMORY", "PEAK"], rows)
    }

    fn comparison(&self, raw: &Raw) -> Vec<String> {
        let mut text = vec![
            format!(
                "RabbitMQ by itself: {:.0} round trips/s with 1,000 under way, {:.2} CPU seconds per 10,000;",
                raw.per_second, raw.cpu_seconds_per_10000
            ),
            format!("one at a time p50 {:.2} ms, p99 {:.2} ms", raw.p50_ms, raw.p99_ms),
        ];
        text.extend(self.done_to_raw_percent.map(|percent| format!("done / raw          {percent:>6.1} %")));
        text.extend(self.p50_to_raw_p50.map(|times| format!("result p50 / raw p50 {times:>5.1}")));
        text
    }
}

impl Share {
    fn of(usage: &Usage, jobs: u64) -> Self {
        Self {
            cpu_seconds: usage.cpu_seconds,
            cpu_seconds_per_10000: usage.cpu_seconds * 10_000.0 / jobs.max(1) as f64,
            memory_mib: usage.memory as f64 / MIB,
            memory_peak_mib: usage.memory_peak as f64 / MIB,
        }
    }
}

/// The table of percentiles, and a histogram of what took longest.
fn lines(tally: &Tally) -> Vec<String> {
    let all = [("answer", &tally.answers), ("result", &tally.results)];
    let shown: Vec<_> = all.into_iter().filter(|(_, times)| !times.is_empty()).collect();
    let rows = shown.iter().map(|(name, times)| {
        let [p50, p90, p99, p999, max] = micros(times).map(millis);
        [(*name).to_owned(), p50, p90, p99, p999, max]
    });
    let mut lines = vec![String::new(), output::table(["TIME TO", "P50", "P90", "P99", "P99.9", "MAX"], rows)];
    if let Some((name, times)) = shown.last() {
        lines.push(String::new());
        lines.push(format!("time to the {name}"));
        lines.extend(histogram::lines(times));
    }
    lines
}
