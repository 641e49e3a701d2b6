//! A project as it was found, and what it takes to leave it so. Pure: what `docker inspect` says goes in, commands and
//! words come out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use buzzer_shared::time::Span;

use super::container::{Container, Place};
use crate::ground::GroundError;
use crate::nemesis::fault::Part;

/// What an API goes by unless it is told otherwise.
const RUN_LEASE: Duration = Duration::from_secs(60);
const CLAIM_LEASE: Duration = Duration::from_secs(30);

/// The containers of a project that take part.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) project: String,
    parts: BTreeMap<Part, Container>,
}

impl Found {
    /// Of all containers of the project.
    pub(super) fn of(project: &str, mut containers: Vec<Container>) -> Result<Self, GroundError> {
        containers.sort_by_key(Container::number);
        let (mut apis, mut workers) = (0.., 0..);
        let mut parts = BTreeMap::new();
        for container in containers.into_iter().filter(|container| !container.is_one_off()) {
            let part = match container.service() {
                "api" => Part::Api(next(&mut apis)),
                "worker" => Part::Worker(next(&mut workers)),
                "rabbitmq" => Part::Broker,
                "postgres" => Part::Store,
                "proxy" => Part::Proxy,
                _ => continue,
            };
            parts.insert(part, container);
        }
        let found = Self { project: project.to_owned(), parts };
        found.is_fit()?;
        Ok(found)
    }

    fn is_fit(&self) -> Result<(), GroundError> {
        let project = &self.project;
        for (part, service) in [(Part::Api(0), "api"), (Part::Worker(0), "worker")] {
            if !self.parts.contains_key(&part) {
                let what =
                    format!("the project {project} has no service {service}: it is not one of docker-compose.yml");
                return Err(GroundError::Missing(what));
            }
        }
        let idle: Vec<_> =
            self.parts.values().filter(|container| !container.is_at_work()).map(Container::name).collect();
        if !idle.is_empty() {
            let idle = idle.join(", ");
            let what =
                format!("not all of the project {project} runs: start {idle} (docker unpause, docker start) first");
            return Err(GroundError::Missing(what));
        }
        Ok(())
    }

    pub(super) fn part(&self, part: Part) -> Result<&Container, GroundError> {
        self.parts.get(&part).ok_or(GroundError::NoPart(part))
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = (Part, &Container)> {
        self.parts.iter().map(|(part, container)| (*part, container))
    }

    pub(super) fn has(&self, part: Part) -> bool {
        self.parts.contains_key(&part)
    }

    pub(super) fn apis(&self) -> usize {
        self.parts.keys().filter(|part| matches!(part, Part::Api(_))).count()
    }

    pub(super) fn workers(&self) -> usize {
        self.parts.keys().filter(|part| matches!(part, Part::Worker(_))).count()
    }

    /// Where clients come in: by the proxy where there is one, else by the only API.
    pub(super) fn way_in(&self) -> Result<String, GroundError> {
        let entrance = self.parts.get(&Part::Proxy).map_or_else(|| self.part(Part::Api(0)), Ok)?;
        if !self.has(Part::Proxy) && self.apis() > 1 {
            return Err(GroundError::Missing(format!(
                "the project {} has several APIs and no proxy before them: start it with COMPOSE_PROFILES=replicas",
                self.project
            )));
        }
        entrance.way_in().ok_or_else(|| {
            let but = if entrance.publishes() { "it is another after each start" } else { "it publishes none" };
            GroundError::Missing(format!("{} has no port to come in by, for {but}: set BUZZER_PORT", entrance.name()))
        })
    }

    /// The longest time after which what nobody speaks for goes out again, as its APIs are told.
    pub(super) fn lease(&self) -> Duration {
        let apis = || self.parts().filter(|(part, _)| matches!(part, Part::Api(_))).map(|(_, container)| container);
        let longest = |name, usual| {
            let told = |api: &Container| api.variable(name).and_then(|text| text.parse::<Span>().ok());
            apis().map(|api| told(api).map_or(usual, Into::into)).max().unwrap_or(usual)
        };
        longest("BUZZER_RUN_LEASE", RUN_LEASE).max(longest("BUZZER_CLAIM_LEASE", CLAIM_LEASE))
    }

    /// The networks that a part is taken off when it is cut off: those on which it meets the broker or the store. Where
    /// clients come in, they still do.
    pub(super) fn meeting_places(&self, part: Part) -> BTreeMap<String, Place> {
        let Some(container) = self.parts.get(&part) else { return BTreeMap::new() };
        let mut places = container.places();
        if !matches!(part, Part::Broker | Part::Store) {
            let others = [Part::Broker, Part::Store].iter().filter_map(|other| self.parts.get(other));
            let met: BTreeSet<_> = others.flat_map(|other| other.places().into_keys()).collect();
            places.retain(|network, _| met.contains(network));
        }
        places
    }

    /// A script that brings all of it to where it was found, whatever has happened; what is there already, it leaves so.
    /// `limits` are commands for `rabbitmqctl`.
    pub(super) fn restoration(&self, limits: &[Vec<String>]) -> String {
        let mut script = String::new();
        let mut line = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
            // What is there already is refused.
            let _ = writeln!(script, "{} || :", words.join(" "));
        };
        for container in in_order(&self.parts) {
            line(&["docker", "unpause", &container.id]);
            for (network, place) in container.places() {
                line(&strings(&connect(&container.id, &network, &place)));
            }
            line(&["docker", "start", &container.id]);
        }
        if let Some(broker) = self.parts.get(&Part::Broker) {
            for limit in limits {
                let words = ["docker", "exec", &broker.id, "rabbitmqctl", "-q"];
                line(&words.into_iter().chain(limit.iter().map(String::as_str)).collect::<Vec<_>>());
            }
        }
        let label = |name: &str, value: &str| quoted(&format!("label=com.docker.compose.{name}={value}"));
        let ours = self.parts.values().map(|container| format!(" -e {}", container.id)).collect::<String>();
        let _ = writeln!(
            script,
            "for more in $(docker ps --all --quiet --no-trunc --filter {} --filter {} --filter {} | grep -vx{ours}); do\n\
             docker stop \"$more\"; docker rm --force --volumes \"$more\"\ndone",
            label("project", &self.project),
            label("service", "worker"),
            label("oneoff", "False"),
        );
        script
    }

    /// In which ways a project, by all its containers, is not as it was found.
    pub(super) fn differences(&self, now: &[Container]) -> Vec<String> {
        let mut differences = Vec::new();
        for (_, was) in self.parts() {
            let name = was.name();
            match now.iter().find(|container| container.id == was.id) {
                None => differences.push(format!("{name} is gone")),
                Some(is) if !is.is_at_work() => differences.push(format!("{name} does not run")),
                Some(is) => differences.extend(astray(was, is)),
            }
        }
        let more = now.iter().filter(|container| self.is_more(container));
        differences.extend(more.map(|container| format!("{} is one more", container.name())));
        differences
    }

    /// Whether it is a worker that was not there.
    pub(super) fn is_more(&self, container: &Container) -> bool {
        container.service() == "worker"
            && !container.is_one_off()
            && !self.parts.values().any(|found| found.id == container.id)
    }
}

/// The command that puts a container on a network as it was.
pub(super) fn connect(id: &str, network: &str, place: &Place) -> Vec<String> {
    let mut words: Vec<String> = ["docker", "network", "connect"].map(Into::into).into();
    for alias in &place.aliases {
        words.extend(["--alias".into(), alias.clone()]);
    }
    for (option, address) in [("--ip", &place.v4), ("--ip6", &place.v6)] {
        words.extend(address.iter().flat_map(|address| [option.to_owned(), address.clone()]));
    }
    words.extend([network.to_owned(), id.to_owned()]);
    words
}

/// The networks on which a container is not as it was.
fn astray(was: &Container, is: &Container) -> Vec<String> {
    let (before, now) = (was.places(), is.places());
    let astray = before.iter().filter(|(network, place)| now.get(*network) != Some(place));
    astray.map(|(network, _)| format!("{} is not on the network {network} as it was", was.name())).collect()
}

/// Those that others need come first.
fn in_order(parts: &BTreeMap<Part, Container>) -> Vec<&Container> {
    let mut parts: Vec<_> = parts.iter().collect();
    parts.sort_by_key(|(part, _)| part.subject());
    parts.into_iter().map(|(_, container)| container).collect()
}

fn next(numbers: &mut impl Iterator<Item = usize>) -> usize {
    numbers.next().unwrap_or_default()
}

pub(super) fn strings(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// For a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What `docker inspect` says of a container, as far as it is read.
    fn inspected(service: &str, number: u32, networks: &[&str], ports: &Value) -> Value {
        let id = format!("{service}{number}").repeat(8);
        let name = format!("shop-{service}-{number}");
        let networks: serde_json::Map<_, _> = networks
            .iter()
            .map(|network| {
                let aliases = json!([name, service, id[..12]]);
                ((*network).to_owned(), json!({ "Aliases": aliases, "IPAMConfig": null, "IPAddress": "10.0.0.2" }))
            })
            .collect();
        json!({
            "Id": id, "Name": format!("/{name}"), "RestartCount": 0,
            "State": { "Running": true, "Paused": false, "ExitCode": 0 },
            "Config": {
                "Env": ["BUZZER_DEMO=1", "PATH=/bin"],
                "Healthcheck": { "Test": ["CMD", "buzzer-api", "--health"] },
                "Labels": {
                    "com.docker.compose.project": "shop",
                    "com.docker.compose.service": service,
                    "com.docker.compose.container-number": number.to_string(),
                    "com.docker.compose.oneoff": "False",
                    "com.docker.compose.project.working_dir": "/srv/shop",
                    "com.docker.compose.project.config_files": "/srv/shop/docker-compose.yml,/srv/shop/more.yml",
                },
            },
            "HostConfig": { "PortBindings": ports },
            "NetworkSettings": { "Networks": networks, "Ports": { "8080/tcp": null, "80/tcp": null } },
        })
    }

    fn port(port: &str) -> Value {
        json!({ "8080/tcp": [{ "HostIp": "127.0.0.1", "HostPort": port }] })
    }

    fn all() -> Vec<Value> {
        vec![
            inspected("worker", 2, &["shop_broker", "shop_outside"], &Value::Null),
            inspected("worker", 1, &["shop_broker", "shop_outside"], &Value::Null),
            inspected("api", 1, &["shop_broker", "shop_store", "shop_front"], &port("0")),
            inspected("rabbitmq", 1, &["shop_broker"], &json!({})),
            inspected("postgres", 1, &["shop_store"], &Value::Null),
            inspected("proxy", 1, &["shop_front"], &port("8080")),
            inspected("metrics", 1, &["shop_front"], &port("9090")),
        ]
    }

    fn containers(inspected: Vec<Value>) -> Vec<Container> {
        serde_json::from_value(inspected.into()).unwrap()
    }

    fn of(inspected: Vec<Value>) -> Result<Found, GroundError> {
        Found::of("shop", containers(inspected))
    }

    /// A project with one API, two workers and a proxy.
    pub(in super::super) fn found() -> Found {
        of(all()).unwrap()
    }

    fn without(service: &str) -> Vec<Value> {
        let mut all = all();
        all.retain(|container| container["Config"]["Labels"]["com.docker.compose.service"] != service);
        all
    }

    #[test]
    fn parts_are_told_by_their_services_and_numbers() {
        let found = found();
        let parts: Vec<_> = found.parts().map(|(part, container)| (part, container.name())).collect();
        assert_eq!(
            parts,
            [
                (Part::Api(0), "shop-api-1"),
                (Part::Worker(0), "shop-worker-1"),
                (Part::Worker(1), "shop-worker-2"),
                (Part::Broker, "shop-rabbitmq-1"),
                (Part::Store, "shop-postgres-1"),
                (Part::Proxy, "shop-proxy-1"),
            ]
        );
        assert_eq!((found.apis(), found.workers()), (1, 2));
    }

    #[test]
    fn what_is_not_whole_is_not_touched() {
        for (project, words) in [
            (without("api"), "no service api"),
            (without("worker"), "no service worker"),
            (
                {
                    let mut all = all();
                    all[3]["State"]["Running"] = false.into();
                    all[4]["State"]["Paused"] = true.into();
                    all
                },
                "start shop-rabbitmq-1, shop-postgres-1",
            ),
        ] {
            let error = of(project).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        // What does not take part may do as it likes.
        let mut idle = all();
        idle[6]["State"]["Running"] = false.into();
        assert!(of(idle).is_ok());
    }

    #[test]
    fn clients_come_in_by_a_port_that_stays() {
        assert_eq!(found().way_in().unwrap(), "http://127.0.0.1:8080");
        let mut alone = without("proxy");
        assert!(of(alone.clone()).unwrap().way_in().unwrap_err().to_string().contains("another after each start"));
        alone[2]["HostConfig"]["PortBindings"] = port("8081");
        assert_eq!(of(alone.clone()).unwrap().way_in().unwrap(), "http://127.0.0.1:8081");
        alone.push(inspected("api", 2, &["shop_broker"], &port("0")));
        assert!(of(alone).unwrap().way_in().unwrap_err().to_string().contains("COMPOSE_PROFILES=replicas"));
        for (host, shown) in
            [("0.0.0.0", "http://127.0.0.1:8080"), ("", "http://127.0.0.1:8080"), ("::", "http://[::1]:8080")]
        {
            let mut all = all();
            all[5]["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostIp"] = host.into();
            assert_eq!(of(all).unwrap().way_in().unwrap(), shown, "{host}");
        }
        let mut closed = all();
        closed[5]["HostConfig"]["PortBindings"] = json!({});
        assert!(of(closed).unwrap().way_in().unwrap_err().to_string().contains("publishes none"));
    }

    #[test]
    fn a_part_is_cut_off_where_it_meets_broker_and_store() {
        let found = found();
        let cut = |part| found.meeting_places(part).into_keys().collect::<Vec<_>>();
        assert_eq!(cut(Part::Api(0)), ["shop_broker", "shop_store"], "clients still come in");
        assert_eq!(cut(Part::Worker(1)), ["shop_broker"]);
        assert_eq!(cut(Part::Broker), ["shop_broker"]);
        assert_eq!(cut(Part::Store), ["shop_store"]);
    }

    #[test]
    fn a_place_on_a_network_is_taken_again_as_it_was() {
        let mut all = all();
        all[3]["NetworkSettings"]["Networks"]["shop_broker"]["IPAMConfig"] = json!({ "IPv4Address": "10.0.0.9" });
        let found = of(all).unwrap();
        let id = &found.part(Part::Broker).unwrap().id;
        let places = found.meeting_places(Part::Broker);
        let command = connect(id, "shop_broker", &places["shop_broker"]).join(" ");
        let aliases = "--alias rabbitmq --alias shop-rabbitmq-1 --ip 10.0.0.9";
        assert_eq!(command, format!("docker network connect {aliases} shop_broker {id}"));
    }

    #[test]
    fn leases_are_those_that_the_apis_are_told() {
        assert_eq!(found().lease(), Duration::from_secs(60));
        let mut all = all();
        all[2]["Config"]["Env"] = json!(["BUZZER_RUN_LEASE=20s", "BUZZER_CLAIM_LEASE=90s"]);
        assert_eq!(of(all).unwrap().lease(), Duration::from_secs(90));
    }

    #[test]
    fn every_difference_is_seen_and_nothing_else() {
        let found = found();
        assert_eq!(found.differences(&containers(all())), [""; 0]);
        let mut changed = all();
        changed[0]["State"]["Running"] = false.into();
        changed[2]["NetworkSettings"]["Networks"].as_object_mut().unwrap().remove("shop_broker");
        changed[3]["NetworkSettings"]["Networks"]["shop_broker"]["Aliases"] = json!(["shop-rabbitmq-1"]);
        changed[4]["State"]["Paused"] = true.into();
        changed.remove(5);
        changed.push(inspected("worker", 3, &["shop_broker"], &Value::Null));
        assert_eq!(
            found.differences(&containers(changed)),
            [
                "shop-api-1 is not on the network shop_broker as it was",
                "shop-worker-2 does not run",
                "shop-rabbitmq-1 is not on the network shop_broker as it was",
                "shop-postgres-1 does not run",
                "shop-proxy-1 is gone",
                "shop-worker-3 is one more",
            ]
        );
    }

    #[test]
    fn all_is_put_back_who_is_needed_first() {
        let found = found();
        let script = found.restoration(&[vec!["set_disk_free_limit".into(), "50'".into()]]);
        let starts: Vec<_> = script.lines().filter_map(|line| line.strip_prefix("docker start ")).collect();
        let id = |part| format!("{} || :", found.part(part).unwrap().id);
        let order = [Part::Store, Part::Broker, Part::Api(0), Part::Worker(0), Part::Worker(1), Part::Proxy];
        assert_eq!(starts, order.map(id));
        assert!(script.contains(r"rabbitmqctl -q set_disk_free_limit '50'\''' || :"), "{script}");
        assert!(script.contains("--alias shop-worker-2 --alias worker shop_outside"), "{script}");
        assert!(!script.contains("metrics"), "{script}");
        let parsed = std::process::Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
        assert!(parsed.success(), "{script}");
    }
}
