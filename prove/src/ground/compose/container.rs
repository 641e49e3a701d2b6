//! A container, as `docker inspect` tells of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::docker::Files;

/// What Compose calls each by.
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";
const ONE_OFF: &str = "com.docker.compose.oneoff";
const DIRECTORY: &str = "com.docker.compose.project.working_dir";
const FILES: &str = "com.docker.compose.project.config_files";
const ENVIRONMENT: &str = "com.docker.compose.project.environment_file";
/// So many characters of its id name a container, too.
const SHORT_ID: usize = 12;

/// What matters here of a container. The names are Docker's.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    pub(super) id: String,
    name: String,
    pub(super) state: State,
    pub(super) restart_count: u64,
    config: Config,
    host_config: HostConfig,
    network_settings: NetworkSettings,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct State {
    pub(super) running: bool,
    pub(super) paused: bool,
    pub(super) exit_code: i64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    healthcheck: Option<HealthCheck>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthCheck {
    #[serde(default)]
    test: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    port_bindings: Option<Ports>,
}

type Ports = BTreeMap<String, Option<Vec<Binding>>>;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    #[serde(default)]
    host_ip: String,
    #[serde(default)]
    host_port: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    ports: Option<Ports>,
    #[serde(default)]
    networks: Option<BTreeMap<String, Endpoint>>,
}

/// A container's place on a network.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    #[serde(default)]
    aliases: Option<Vec<String>>,
    #[serde(default, rename = "IPAMConfig")]
    addresses: Option<Addresses>,
}

/// Addresses that it is to have, where somebody asked for them.
#[derive(Debug, Clone, Deserialize)]
struct Addresses {
    #[serde(default, rename = "IPv4Address")]
    v4: String,
    #[serde(default, rename = "IPv6Address")]
    v6: String,
}

/// How a container is reached on a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) aliases: BTreeSet<String>,
    pub(super) v4: Option<String>,
    pub(super) v6: Option<String>,
}

impl Container {
    /// Its name, for people.
    pub(super) fn name(&self) -> &str {
        self.name.trim_start_matches('/')
    }

    pub(super) fn service(&self) -> &str {
        self.label(SERVICE)
    }

    /// Which of those of its service it is.
    pub(super) fn number(&self) -> u32 {
        self.label(NUMBER).parse().unwrap_or_default()
    }

    /// Whether somebody runs it for one command.
    pub(super) fn is_one_off(&self) -> bool {
        self.label(ONE_OFF) == "True"
    }

    /// Whether it does its work now.
    pub(super) fn is_at_work(&self) -> bool {
        self.state.running && !self.state.paused
    }

    /// A variable of its environment.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// All of its environment.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.config.env.iter().flatten().filter_map(|line| line.split_once('='))
    }

    /// The command that tells whether it is well, to be run inside it. `None`: it has none.
    pub(super) fn health_check(&self) -> Option<Vec<&str>> {
        let test: Vec<_> = self.config.healthcheck.as_ref()?.test.iter().flatten().map(String::as_str).collect();
        match test.as_slice() {
            ["CMD", command @ ..] if !command.is_empty() => Some(command.to_vec()),
            ["CMD-SHELL", script] => Some(vec!["sh", "-c", script]),
            _ => None,
        }
    }

    /// The networks that it is on and can be taken off.
    pub(super) fn places(&self) -> BTreeMap<String, Place> {
        let networks = self.network_settings.networks.iter().flatten();
        let removable = networks.filter(|(name, _)| !matches!(name.as_str(), "host" | "none"));
        removable.map(|(name, endpoint)| (name.clone(), self.place(endpoint))).collect()
    }

    /// Where the first port that it publishes is reached from this machine, if that stays the same when it is started
    /// again.
    pub(super) fn way_in(&self) -> Option<String> {
        let bindings = bindings(self.host_config.port_bindings.as_ref());
        bindings.filter(|binding| !matches!(binding.host_port.as_str(), "" | "0")).map(Binding::url).next()
    }

    /// Where that is now, while it runs.
    pub(super) fn door(&self) -> Option<String> {
        bindings(self.network_settings.ports.as_ref()).map(Binding::url).next()
    }

    /// Whether it publishes a port at all.
    pub(super) fn publishes(&self) -> bool {
        bindings(self.host_config.port_bindings.as_ref()).next().is_some()
    }

    /// What `docker compose` needs to know of the project.
    pub(super) fn files(&self) -> Files {
        let paths = |label| self.label(label).split(',').filter(|path| !path.is_empty()).map(Into::into).collect();
        Files { directory: self.label(DIRECTORY).into(), compose: paths(FILES), environment: paths(ENVIRONMENT) }
    }

    fn place(&self, endpoint: &Endpoint) -> Place {
        let address = |of: fn(&Addresses) -> &String| {
            endpoint.addresses.as_ref().map(of).filter(|address| !address.is_empty()).cloned()
        };
        // Older engines add it by themselves.
        let short_id = self.id.get(..SHORT_ID);
        let aliases = endpoint.aliases.iter().flatten().filter(|alias| Some(alias.as_str()) != short_id);
        Place {
            aliases: aliases.cloned().collect(),
            v4: address(|addresses| &addresses.v4),
            v6: address(|addresses| &addresses.v6),
        }
    }

    fn label(&self, name: &str) -> &str {
        self.config.labels.as_ref().and_then(|labels| labels.get(name)).map_or("", String::as_str)
    }
}

impl Binding {
    fn url(&self) -> String {
        let host = match self.host_ip.as_str() {
            "" | "0.0.0.0" => "127.0.0.1".to_owned(),
            "::" => "[::1]".to_owned(),
            ip if ip.contains(':') => format!("[{ip}]"),
            ip => ip.to_owned(),
        };
        format!("http://{host}:{}", self.host_port)
    }
}

fn bindings(ports: Option<&Ports>) -> impl Iterator<Item = &Binding> {
    ports.into_iter().flatten().flat_map(|(_, bindings)| bindings.iter().flatten())
}
