//! Clients that hand in as much as is taken, and what the system needs for it: for programs that measure.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde_json::Value;

use crate::client::Client;
use crate::wait::eventually;

/// How often it is looked whether all is done.
const LOOK: Duration = Duration::from_millis(10);
/// For workers to be there, many of them at once.
const STARTED: Duration = Duration::from_secs(60);
/// No run that works stands still for so long.
const STILL: Duration = Duration::from_secs(120);

/// Waits until the workers have so many slots for a kind together.
///
/// # Panics
/// When they have not within a minute.
pub async fn slots_are(client: &Client, kind: &str, slots: usize) {
    eventually(&format!("{slots} slots for {kind}"), STARTED, async || {
        let stats = client.get("/v1/stats").await.ok()?.json();
        (stats["kinds"][kind]["slots"] == slots).then_some(())
    })
    .await;
}

/// Jobs that are all the same.
#[derive(Debug, Clone)]
pub struct Load<'a> {
    pub kind: &'a str,
    pub input: Value,
    pub jobs: usize,
    pub connections: usize,
}

/// What came of a load that was handed in.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub per_second: f64,
    /// How long each answer took, in milliseconds, the shortest first.
    pub millis: Vec<f64>,
}

impl Accepted {
    /// So many of a hundred answers took no longer, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        percentile(&self.millis, percent)
    }
}

/// The value that `percent` of the sorted `values` do not exceed.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

impl Load<'_> {
    /// Hands all in, as fast as they are taken.
    pub async fn hand_in(&self, client: &Client) -> Result<Accepted> {
        let body = serde_json::json!({ "input": self.input }).to_string();
        let path = format!("/v1/jobs/{}", self.kind);
        let submissions = (0..self.jobs).map(|_| {
            let request = client.request(Method::POST, &path).header("content-type", "application/json");
            let request = request.body(body.clone());
            async move {
                let asked = Instant::now();
                let answer = client.send(request).await?;
                ensure!(answer.status.as_u16() == 202, "{}", answer.text);
                Ok(asked.elapsed().as_secs_f64() * 1000.0)
            }
        });
        let started = Instant::now();
        let mut submissions = stream::iter(submissions).buffer_unordered(self.connections);
        let mut millis = Vec::with_capacity(self.jobs);
        while let Some(took) = submissions.next().await {
            millis.push(took?);
        }
        let per_second = self.jobs as f64 / started.elapsed().as_secs_f64();
        millis.sort_by(f64::total_cmp);
        Ok(Accepted { per_second, millis })
    }

    /// Waits until no job of the kind is left to do.
    pub async fn ended(&self, client: &Client) -> Result<()> {
        let (mut left, mut since) = (u64::MAX, Instant::now());
        loop {
            let kind = &client.get("/v1/stats").await?.json()["kinds"][self.kind];
            let count = |name: &str| kind[name].as_u64().with_context(|| format!("{name} in {kind}"));
            let now_left = count("waiting")? + count("out")? + count("retrying")?;
            if now_left == 0 {
                return Ok(());
            }
            if now_left < left {
                (left, since) = (now_left, Instant::now());
            }
            ensure!(since.elapsed() < STILL, "the jobs are not done: {kind}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Hands all in and waits until they are done: what was accepted, and completed jobs a second.
    pub async fn complete(&self, client: &Client) -> Result<(Accepted, f64)> {
        let started = Instant::now();
        let accepted = self.hand_in(client).await?;
        self.ended(client).await?;
        Ok((accepted, self.jobs as f64 / started.elapsed().as_secs_f64()))
    }
}

/// What a process holds in memory now, in MiB. `VmRSS` of `/proc/PID/status`.
pub fn memory_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
