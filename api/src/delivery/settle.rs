use std::time::Duration;

use buzzer_shared::time::Time;
use buzzer_shared::webhook::Answer;

use super::attempt::KEPT;
use super::{Attempt, Delivery, Disabled, Health, Schedule, State, Why, is_delivered};

const GONE: u16 = 410;
/// An endpoint that asks for more patience than this is asked again after it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// What failures lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub schedule: Schedule,
    /// An endpoint that has failed for so long is disabled.
    pub patience: Duration,
}

/// What comes of an attempt: the delivery as it is now, and how its endpoint fares.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    pub delivery: Delivery,
    pub health: Health,
}

/// Whom a delivery goes to, as far as that matters for what comes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    pub health: Health,
    /// Only one that somebody registered is ever disabled: the hosts that jobs name stand for many URLs.
    pub registered: bool,
}

impl Rules {
    /// Decides what comes of an attempt. `chance` is uniform in 0..1.
    pub fn settle(&self, delivery: Delivery, to: Endpoint, attempt: Attempt, chance: f64, now: Time) -> Settled {
        let (answer, health) = (attempt.answer.clone(), to.health.after(attempt.duration.as_duration()));
        let mut delivery = remember(delivery, attempt);
        if is_delivered(&answer) {
            delivery.state = State::Delivered { at: now };
            return Settled { delivery, health: health.after_success() };
        }
        let (gone, retry_after) = (is_gone(&answer), retry_after(&answer));
        delivery.failed = delivery.failed.saturating_add(1);
        delivery.state = match self.schedule.wait(delivery.failed, retry_after, chance) {
            Some(wait) if !gone => State::Waiting { due: now + wait },
            _ => State::Failed { at: now },
        };
        let mut health = health.after_failure(retry_after, now);
        if to.registered && health.disabled.is_none() {
            health.disabled = self.verdict(health, gone, now).map(|why| Disabled { at: now, why });
        }
        Settled { delivery, health }
    }

    /// Whether an endpoint that has just failed is told anything more.
    fn verdict(&self, health: Health, gone: bool, now: Time) -> Option<Why> {
        let failed_for = health.failing_since.map_or(Duration::ZERO, |since| now.since(since));
        match () {
            () if gone => Some(Why::Gone),
            () if failed_for >= self.patience => Some(Why::Failing),
            () => None,
        }
    }
}

fn remember(mut delivery: Delivery, attempt: Attempt) -> Delivery {
    delivery.attempts.push(attempt);
    let forgotten = delivery.attempts.len().saturating_sub(KEPT);
    delivery.attempts.drain(..forgotten);
    delivery
}

fn is_gone(answer: &Answer) -> bool {
    matches!(answer, Answer::Response { status: GONE, .. })
}

/// Only who is busy is believed: any other failure is no promise that it will go better then.
fn retry_after(answer: &Answer) -> Option<Duration> {
    match answer {
        Answer::Response { status: 429 | 503, retry_after, .. } => {
            retry_after.map(|wait| wait.as_duration().min(RETRY_AFTER_MAX))
        }
        Answer::Response { .. } | Answer::Nothing(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::id::{DeliveryId, JobId};
    use buzzer_shared::time::Span;

    use super::*;
    use crate::delivery::Told;

    const NOW: Time = Time::from_millis(1_795_000_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn rules() -> Rules {
        Rules { schedule: Schedule::default(), patience: 5 * DAY }
    }

    fn delivery() -> Delivery {
        let state = State::UnderWay { run: JobId::new(NOW) };
        let of = Told::Test;
        Delivery { id: DeliveryId::new(NOW), of, url: None, created_at: NOW, state, attempts: Vec::new(), failed: 0 }
    }

    fn response(status: u16, retry_after: Option<u64>) -> Answer {
        Answer::Response { status, body: String::new(), retry_after: retry_after.map(Span::from_secs) }
    }

    fn after(delivery: Delivery, health: Health, answer: Answer, now: Time) -> Settled {
        let attempt = Attempt { at: now, duration: Span::from_millis(5), answer };
        rules().settle(delivery, Endpoint { health, registered: true }, attempt, 0.0, now)
    }

    #[test]
    fn a_2xx_is_a_success_and_everything_else_a_failure() {
        let failing = Health { failing_since: Some(NOW), paused_until: Some(NOW), ..Health::default() };
        for status in [200, 201, 204, 299] {
            let Settled { delivery, health } = after(delivery(), failing, response(status, None), NOW);
            assert_eq!((delivery.state, health), (State::Delivered { at: NOW }, Health::default()), "{status}");
            assert_eq!(delivery.attempts.len(), 1);
        }
        let failures =
            [199, 300, 301, 302, 307, 400, 404, 410, 429, 500, 503, 599].map(|status| response(status, None));
        for answer in failures.into_iter().chain([Answer::Nothing("connection refused".into())]) {
            let Settled { delivery, health } = after(delivery(), Health::default(), answer.clone(), NOW);
            assert_ne!(delivery.state, State::Delivered { at: NOW }, "{answer:?}");
            assert_eq!((delivery.failed, health.failing_since), (1, Some(NOW)), "{answer:?}");
        }
    }

    #[test]
    fn a_delivery_that_fails_is_tried_ten_times_over_three_days() {
        let (mut settled, mut now) = (Settled { delivery: delivery(), health: Health::default() }, NOW);
        let mut waits = Vec::new();
        loop {
            settled = after(settled.delivery, settled.health, response(500, None), now);
            match settled.delivery.state {
                State::Waiting { due } => waits.push(due.since(now).as_secs()),
                other => break assert_eq!(other, State::Failed { at: now }),
            }
            now = now + Duration::from_secs(*waits.last().unwrap());
        }
        assert_eq!(waits, [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]);
        assert_eq!((settled.delivery.attempts.len(), settled.health.disabled), (10, None));
    }

    #[test]
    fn who_is_busy_is_left_alone_as_long_as_it_asks() {
        for status in [429, 503] {
            let Settled { delivery, health } = after(delivery(), Health::default(), response(status, Some(600)), NOW);
            let then = NOW + Duration::from_secs(600);
            assert_eq!((delivery.state, health.paused_until), (State::Waiting { due: then }, Some(then)), "{status}");
        }
        let forever = after(delivery(), Health::default(), response(429, Some(u64::MAX / 2000)), NOW);
        assert_eq!(forever.delivery.state, State::Waiting { due: NOW + DAY });
        let Settled { delivery, health } = after(delivery(), Health::default(), response(500, Some(600)), NOW);
        let soon = State::Waiting { due: NOW + Duration::from_secs(5) };
        assert_eq!((delivery.state, health.paused_until), (soon, None));
    }

    #[test]
    fn who_is_gone_is_disabled_and_so_is_who_has_failed_for_days() {
        let Settled { delivery, health } = after(delivery(), Health::default(), response(410, None), NOW);
        assert_eq!(delivery.state, State::Failed { at: NOW });
        assert_eq!(health.disabled, Some(Disabled { at: NOW, why: Why::Gone }));

        let failing = Health { failing_since: Some(NOW), ..Health::default() };
        let almost = NOW + 5 * DAY - Duration::from_millis(1);
        assert_eq!(after(self::delivery(), failing, response(500, None), almost).health.disabled, None);
        let then = NOW + 5 * DAY;
        let settled = after(self::delivery(), failing, Answer::Nothing("no".into()), then);
        assert_eq!(settled.health.disabled, Some(Disabled { at: then, why: Why::Failing }));
        assert!(matches!(settled.delivery.state, State::Waiting { .. }), "it goes on if somebody enables it");

        let owner = Health { disabled: Some(Disabled { at: NOW, why: Why::Owner }), ..failing };
        assert_eq!(after(self::delivery(), owner, response(410, None), then).health.disabled, owner.disabled);
    }

    #[test]
    fn a_host_that_jobs_name_is_never_disabled() {
        let failing = Health { failing_since: Some(NOW), ..Health::default() };
        let attempt = Attempt { at: NOW, duration: Span::from_millis(5), answer: response(410, None) };
        let host = Endpoint { health: failing, registered: false };
        let settled = rules().settle(delivery(), host, attempt, 0.0, NOW + 9 * DAY);
        assert_eq!((settled.health.disabled, settled.delivery.state), (None, State::Failed { at: NOW + 9 * DAY }));
    }

    #[test]
    fn who_takes_long_is_slow_until_it_does_not() {
        let took = |health, millis| {
            let attempt = Attempt { at: NOW, duration: Span::from_millis(millis), answer: response(200, None) };
            rules().settle(delivery(), Endpoint { health, registered: true }, attempt, 0.0, NOW).health
        };
        let slow = took(Health::default(), 1_001);
        assert!(slow.slow && !took(slow, 1_000).slow);
    }

    #[test]
    fn the_longer_it_fails_the_less_often_it_is_asked() {
        let pause = |seconds: u64| {
            let now = NOW + Duration::from_secs(seconds);
            let failing = Health { failing_since: Some(NOW), ..Health::default() };
            let health = after(delivery(), failing, response(500, None), now).health;
            health.paused_until.map_or(0, |until| until.since(now).as_secs())
        };
        assert_eq!([pause(0), pause(10), pause(300), pause(600), pause(86_400)], [0, 1, 30, 60, 60]);
    }

    #[test]
    fn only_so_many_attempts_are_kept() {
        let mut settled = Settled { delivery: delivery(), health: Health::default() };
        for at in 0..60 {
            let attempt =
                Attempt { at: Time::from_millis(at), duration: Span::from_millis(1), answer: response(500, None) };
            let to = Endpoint { health: settled.health, registered: true };
            settled = rules().settle(settled.delivery, to, attempt, 0.0, NOW);
        }
        let kept: Vec<_> = settled.delivery.attempts.iter().map(|attempt| attempt.at.as_millis()).collect();
        assert_eq!(kept, (10..60).collect::<Vec<_>>());
    }
}
