use std::borrow::Cow;
use std::net::Ipv4Addr;

use buzzer_shared::broker::amqp::survey::{self, Found, Permission, Sight, Survey, Unseen};
use buzzer_shared::config::BrokerAddress;
use buzzer_shared::kind::Kind;
use buzzer_shared::topology::{Declaration, Topology};
use url::Url;

use super::Role;
use crate::report::{Finding, Report};

/// The oldest RabbitMQ that Buzzer is tested on.
const OLDEST: (u32, u32) = (3, 10);

/// Whose line to the broker is looked at.
#[derive(Debug)]
pub struct Patient<'a> {
    pub address: &'a BrokerAddress,
    pub prefix: &'a str,
    pub role: Role,
}

/// Looks at the broker: `kinds` are those that should have a queue there.
pub async fn check(patient: &Patient<'_>, kinds: &[Kind], report: &mut Report) {
    let BrokerAddress::Amqp(url) = patient.address else {
        report.skip("broker", "it is inside `buzzer up`");
        return;
    };
    // RabbitMQ tells its version before anybody has logged in.
    let version = match survey::version(url).await {
        Ok(found) => version(&found),
        Err(_) => Finding::skip("the broker does not answer"),
    };
    let survey = match Survey::open(url).await {
        Ok(survey) => survey,
        Err(unseen) => {
            report.add("broker", unreached(patient.address, &unseen));
            report.add("version", version);
            for check in ["user", "permissions", "topology", "parked"] {
                report.skip(check, "nobody is logged in");
            }
            return;
        }
    };
    report.add("broker", Finding::ok(format!("{}, logged in as {}", patient.address.redacted(), user(url))));
    report.add("version", version);
    report.add("user", guest(url));
    report.add("permissions", told(permissions(patient, url, &survey).await));
    let topology = Topology::new(patient.prefix);
    report.add("topology", told(topology_is_whole(patient.role, &topology, kinds, &survey).await));
    report.add("parked", told(survey.waiting(&topology.parking_queue()).await.map(parked)));
}

/// What was found, or that the broker fell silent meanwhile.
fn told(found: Result<Finding, Unseen>) -> Finding {
    found.unwrap_or_else(|unseen| Finding::fail(format!("RabbitMQ does not answer: {unseen}")))
}

fn unreached(address: &BrokerAddress, unseen: &Unseen) -> Finding {
    let at = address.redacted();
    match unseen {
        Unseen::Away(reason) => Finding::fail(format!(
            "{at} cannot be reached: {reason}; does RabbitMQ run there, and does BUZZER_BROKER name it?"
        )),
        Unseen::Refused(reason) => Finding::fail(format!("{at} does not let us in: {reason}")),
    }
}

fn version(found: &str) -> Finding {
    let mut numbers = found.split('.').map_while(|part| part.parse::<u32>().ok());
    let series = numbers.next().zip(numbers.next());
    match series {
        Some(series) if series >= OLDEST => Finding::ok(format!("RabbitMQ {found}")),
        _ => Finding::warn(format!(
            "RabbitMQ {found}; Buzzer is tested on {}.{} and newer: update it",
            OLDEST.0, OLDEST.1
        )),
    }
}

/// Who logs in: RabbitMQ's clients are `guest` unless they are told otherwise.
fn user(url: &Url) -> Cow<'_, str> {
    if url.username().is_empty() { "guest".into() } else { decoded(url.username()) }
}

/// A part of an address as RabbitMQ knows it.
fn decoded(part: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy()
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn guest(url: &Url) -> Finding {
    let local = match url.host() {
        // Of `amqp`, an IPv4 address is a name to the parser.
        Some(url::Host::Domain(name)) => {
            name == "localhost" || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => true,
    };
    match &*user(url) {
        "guest" if !local => Finding::warn(
            "guest, with a password that everybody knows, may log in from other machines; add a user of its own, and delete guest",
        ),
        "guest" => Finding::ok("guest, on this machine only"),
        name => Finding::ok(format!("{name}, a user of its own")),
    }
}

/// What a role must be allowed, as `rabbitmqctl set_permissions` takes it, and names that such patterns cover.
struct Needs {
    patterns: [String; 3],
    names: Vec<(Permission, String)>,
}

impl Needs {
    fn of(role: Role, prefix: &str) -> Self {
        use Permission::{Configure, Read, Write};
        let unused = format!("doctor-{:016x}", fastrand::u64(..));
        let name = |rest: &str| format!("{prefix}.{rest}");
        let start = format!(r"^{}\.", prefix.replace('.', r"\."));
        match role {
            Role::Api => Self {
                patterns: [(); 3].map(|()| format!("{start}.*")),
                names: [Configure, Write, Read].map(|permission| (permission, name(&unused))).into(),
            },
            Role::Worker => Self {
                patterns: [
                    format!(r"{start}control\..*"),
                    format!(r"{start}(replies|parking|control\..*)$"),
                    format!(r"{start}(requests\..*|control.*)$"),
                ],
                names: vec![
                    (Configure, name(&format!("control.{unused}"))),
                    (Write, name("replies")),
                    (Write, name("parking")),
                    (Write, name(&format!("control.{unused}-w"))),
                    (Read, name(&format!("requests.{unused}.v1"))),
                    (Read, name("control")),
                    (Read, name(&format!("control.{unused}-r"))),
                ],
            },
        }
    }
}

async fn permissions(patient: &Patient<'_>, url: &Url, survey: &Survey) -> Result<Finding, Unseen> {
    let needs = Needs::of(patient.role, patient.prefix);
    let mut missing = Vec::new();
    for (permission, name) in &needs.names {
        if !survey.permits(*permission, name).await? && !missing.contains(permission) {
            missing.push(*permission);
        }
    }
    Ok(allowed(&needs, &missing, url))
}

fn allowed(needs: &Needs, missing: &[Permission], url: &Url) -> Finding {
    let [configure, write, read] = &needs.patterns;
    if missing.is_empty() {
        return Finding::ok(format!("has what it needs: configure {configure}, write {write}, read {read}"));
    }
    let user = user(url);
    let missing: Vec<_> = missing.iter().map(|permission| format!("{permission:?}").to_lowercase()).collect();
    Finding::fail(format!(
        "{user} may not {} all that it must; on the broker: rabbitmqctl set_permissions -p {} {} '{configure}' '{write}' '{read}'",
        missing.join(" and "),
        quoted(&vhost(url)),
        quoted(&user),
    ))
}

fn vhost(url: &Url) -> Cow<'_, str> {
    match url.path().strip_prefix('/') {
        None | Some("") => "/".into(),
        Some(name) => decoded(name),
    }
}

async fn topology_is_whole(
    role: Role,
    topology: &Topology,
    kinds: &[Kind],
    survey: &Survey,
) -> Result<Finding, Unseen> {
    let mut state = State::default();
    let queues = kinds.iter().flat_map(|kind| topology.requests(kind));
    for declaration in topology.fixed().into_iter().chain(queues) {
        let Some(name) = name(&declaration) else { continue };
        match survey.look(&declaration).await? {
            Found::AsExpected => state.whole += 1,
            Found::Unclear => state.unclear += 1,
            Found::Hidden => state.hidden += 1,
            Found::Absent => state.absent.push(name),
            Found::Different(reason) => state.different.push(format!("{name}: {reason}")),
        }
    }
    Ok(state.judge(role))
}

/// Exchanges and queues as they were found.
#[derive(Debug, Default)]
struct State {
    whole: usize,
    unclear: usize,
    hidden: usize,
    absent: Vec<String>,
    different: Vec<String>,
}

impl State {
    fn judge(&self, role: Role) -> Finding {
        let there = self.whole + self.unclear;
        if !self.different.is_empty() {
            // Each has the way out already.
            return Finding::fail(self.different.join("; "));
        }
        match (there, self.absent.len(), role) {
            (0, 0, _) if self.hidden > 0 => Finding::skip("this user may not look; an API's may"),
            (_, 0, _) if self.unclear == 0 => {
                Finding::ok(format!("{there} exchanges and queues, with the arguments they should have"))
            }
            (_, 0, _) => Finding::ok(format!(
                "{there} exchanges and queues are there; with which arguments, this user may not ask"
            )),
            (0, _, Role::Api) => Finding::ok("nothing there yet; an API makes it at its start"),
            (0, _, Role::Worker) => {
                Finding::warn("nothing there yet; start an API on this broker, with the same BUZZER_PREFIX")
            }
            (..) => Finding::warn(format!(
                "not there: {}; a running API makes it again, and the queue of a kind once a worker of that kind is there",
                self.absent.join(", ")
            )),
        }
    }
}

fn name(declaration: &Declaration) -> Option<String> {
    match declaration {
        Declaration::Exchange { name, .. } => Some(format!("exchange {name}")),
        Declaration::Queue(queue) => Some(format!("queue {}", queue.name)),
        Declaration::Binding { .. } => None,
    }
}

fn parked(waiting: Sight<u32>) -> Finding {
    match waiting {
        Sight::Hidden => Finding::skip("this user may not look; an API's may"),
        Sight::Absent | Sight::There(0) => Finding::ok("nothing"),
        Sight::There(count) => Finding::warn(format!(
            "{count} parked, which nobody could read or route; `buzzer parked` shows, replays and drops them"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn rabbitmq_before_3_10_is_a_warning() {
        for (found, verdict) in [
            ("3.10.8", Verdict::Ok),
            ("4.3.0", Verdict::Ok),
            ("3.13.7-rc.1", Verdict::Ok),
            ("3.9.29", Verdict::Warn),
            ("unknown", Verdict::Warn),
        ] {
            assert_eq!(version(found).verdict, verdict, "{found}");
        }
    }

    #[test]
    fn guest_is_for_one_machine() {
        for (address, verdict) in [
            ("amqp://mq/%2f", Verdict::Warn),
            ("amqp://guest:guest@10.0.0.1/%2f", Verdict::Warn),
            ("amqp://guest:guest@localhost/%2f", Verdict::Ok),
            ("amqp://guest:guest@127.0.0.1:5672/%2f", Verdict::Ok),
            ("amqp://guest:guest@[::1]/%2f", Verdict::Ok),
            ("amqp://api:x@mq/%2f", Verdict::Ok),
        ] {
            assert_eq!(guest(&url(address)).verdict, verdict, "{address}");
        }
    }

    #[test]
    fn a_missing_permission_comes_with_the_command_that_gives_it() {
        let needs = Needs::of(Role::Worker, "my.buzzer");
        let finding = allowed(&needs, &[Permission::Write, Permission::Read], &url("amqp://w:s3cret@mq/my%2fhost"));
        assert_eq!(
            finding,
            Finding::fail(
                r"w may not write and read all that it must; on the broker: rabbitmqctl set_permissions -p 'my/host' 'w' '^my\.buzzer\.control\..*' '^my\.buzzer\.(replies|parking|control\..*)$' '^my\.buzzer\.(requests\..*|control.*)$'"
            )
        );
        let odd = allowed(&needs, &[Permission::Read], &url("amqp://the%20o%27shop:s3cret@mq/my%20h%C3%B6st")).text;
        assert!(odd.contains(r"-p 'my höst' 'the o'\''shop' "), "{odd}");
        assert_eq!(allowed(&needs, &[], &url("amqp://mq")).verdict, Verdict::Ok);
    }

    #[test]
    fn a_topology_that_differs_fails_and_one_that_is_not_there_is_made() {
        let state = |whole, unclear, absent: &[&str], different: &[&str]| State {
            whole,
            unclear,
            hidden: 0,
            absent: absent.iter().map(|name| (*name).into()).collect(),
            different: different.iter().map(|name| (*name).into()).collect(),
        };
        for (state, role, verdict) in [
            (state(8, 0, &[], &[]), Role::Api, Verdict::Ok),
            (state(0, 8, &[], &[]), Role::Worker, Verdict::Ok),
            (state(0, 0, &["queue q"], &[]), Role::Api, Verdict::Ok),
            (state(0, 0, &["queue q"], &[]), Role::Worker, Verdict::Warn),
            (state(7, 0, &["queue q"], &[]), Role::Api, Verdict::Warn),
            (state(6, 0, &["queue q"], &["queue p: other"]), Role::Api, Verdict::Fail),
        ] {
            assert_eq!(state.judge(role).verdict, verdict, "{state:?}");
        }
        assert_eq!(State { hidden: 8, ..State::default() }.judge(Role::Worker).verdict, Verdict::Skip);
    }
}
