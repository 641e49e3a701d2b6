//! A Compose project that runs. [`found`] is how it was and what it takes to leave it so, [`container`] what Docker says,
//! [`docker`] how it is asked, [`access`] whether we may come in.

mod access;
mod container;
mod docker;
mod found;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use buzzer_shared::kind::Kind;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::{Instant, sleep};

pub use self::access::Access;
use self::container::Container;
use self::docker::Docker;
use self::found::{Found, connect, strings};
use super::guardian::Guardian;
use super::{Ground, GroundError, Make};
use crate::nemesis::fault::{BrokerAccess, BrokerFault, Fault, Part, Shape};
use crate::nemesis::planted::Planted;
use crate::wait::eventually;

/// For what runs in a container to be there.
const START_LIMIT: Duration = Duration::from_secs(120);
/// For a project to be as it was found.
const LEAVE_LIMIT: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(500);
/// Each command that asks a container costs some of the machine.
const AGAIN: Duration = Duration::from_millis(100);
/// So little memory that RabbitMQ has more at once, and more than any disk has free.
const LITTLE_MEMORY: &str = "0.00001";
const MUCH_DISK: &str = "1000000GB";

/// A project that was found, and is left as it was: by [`Ground::leave`], or else by a guardian.
#[derive(Debug)]
pub struct ComposeProject {
    docker: Docker,
    found: Found,
    way_in: String,
    limits: Limits,
    skipped: Vec<String>,
    may_scale: bool,
    /// How often Docker has started each container by itself.
    restarts: Mutex<BTreeMap<Part, u64>>,
    logs: PathBuf,
    began: Instant,
    guardian: Mutex<Option<Guardian>>,
}

/// From where on RabbitMQ takes nothing more: commands for `rabbitmqctl` that set it as it was.
#[derive(Debug, Default, PartialEq, Eq)]
struct Limits {
    version: Option<String>,
    memory: Vec<String>,
    disk: Vec<String>,
}

impl ComposeProject {
    /// Finds it, and sees whether it can be proved. `logs` is a folder for what it logs meanwhile.
    ///
    /// # Errors
    /// When it is not there, not whole, or lets nobody in; says what to do.
    pub async fn find(access: &Access, logs: &Path) -> Result<Self, GroundError> {
        let docker = Docker::default();
        let containers = containers(&docker, &access.project).await?;
        if containers.is_empty() {
            return Err(no_project(&docker, &access.project).await);
        }
        let found = Found::of(&access.project, containers)?;
        let way_in = found.way_in()?;
        access::check(access, &found, &way_in).await?;
        let limits = match found.part(Part::Broker) {
            Ok(broker) => Limits::of(&docker, broker).await?,
            Err(_) => Limits::default(),
        };
        let mut skipped = Vec::new();
        let absent = [
            (Part::Broker, "RabbitMQ: there is no service rabbitmq"),
            (Part::Store, "PostgreSQL: there is no service postgres"),
        ];
        skipped.extend(absent.into_iter().filter(|(part, _)| !found.has(*part)).map(|(_, why)| why.to_owned()));
        let files = found.part(Part::Worker(0))?.files();
        let gone = files.compose.iter().find(|file| !file.exists());
        skipped.extend(gone.map(|file| format!("scaled up: workers: {} is not on this machine", file.display())));
        let may_scale = gone.is_none() && !files.compose.is_empty();
        let restarts = found.parts().map(|(part, container)| (part, container.restart_count)).collect();
        let guardian = Guardian::of_containers(&found.restoration(&limits.all())).map_err(GroundError::io("sh"))?;
        Ok(Self {
            docker,
            found,
            way_in,
            limits,
            skipped,
            may_scale,
            restarts: Mutex::new(restarts),
            logs: logs.to_owned(),
            began: Instant::now(),
            guardian: Mutex::new(Some(guardian)),
        })
    }

    async fn act(&self, verb: &str, part: Part) -> Result<(), GroundError> {
        let id = &self.found.part(part)?.id;
        self.docker.run(&[verb, id]).await.map(drop)
    }

    /// Runs a command in a part's container; what it printed.
    async fn inside(&self, part: Part, command: &[&str]) -> Result<String, GroundError> {
        let id = &self.found.part(part)?.id;
        self.docker.run(&[&["exec", id], command].concat()).await
    }

    async fn ctl(&self, command: &[&str]) -> Result<(), GroundError> {
        self.inside(Part::Broker, &[&["rabbitmqctl", "-q"], command].concat()).await.map(drop)
    }

    /// How a container that was asked to stop has ended, where that was not well.
    async fn unwell(&self, id: &str) -> Result<Option<String>, GroundError> {
        let code = inspect(&self.docker, &[id]).await?.first().map_or(0, |container| container.state.exit_code);
        Ok((code != 0).then(|| format!("exit code {code}")))
    }

    /// The workers that were not there.
    async fn more(&self) -> Result<Vec<Container>, GroundError> {
        let mut now = containers(&self.docker, &self.found.project).await?;
        now.retain(|container| self.found.is_more(container));
        Ok(now)
    }

    fn restarts(&self) -> std::sync::MutexGuard<'_, BTreeMap<Part, u64>> {
        self.restarts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep_logs(&self) -> Result<(), GroundError> {
        let since = self.began.elapsed().as_secs() + 1;
        for (_, container) in self.found.parts() {
            let file = self.logs.join(format!("{}.log", container.name()));
            let script = format!("docker logs --since {since}s {} >'{}' 2>&1", container.id, file.display());
            self.docker.script(&script).await?;
        }
        Ok(())
    }
}

#[async_trait(?Send)]
impl Ground for ComposeProject {
    fn shape(&self) -> Shape {
        let access = |there| if there { BrokerAccess::Controlled } else { BrokerAccess::Spared };
        Shape {
            apis: self.found.apis(),
            workers: self.found.workers(),
            spare_worker: self.may_scale,
            broker: access(self.found.has(Part::Broker)),
            postgres: self.found.has(Part::Store),
            proxy: self.found.has(Part::Proxy),
            lines: false,
            networks: self.found.has(Part::Broker),
            store_disk: false,
            broker_disk: false,
            clocks: false,
        }
    }

    fn doors(&self) -> Vec<String> {
        vec![self.way_in.clone()]
    }

    async fn every_door(&self) -> Result<Vec<String>, GroundError> {
        let apis: Vec<_> = self.found.parts().filter(|(part, _)| matches!(part, Part::Api(_))).collect();
        let ids: Vec<_> = apis.iter().map(|(_, container)| container.id.as_str()).collect();
        let now = inspect(&self.docker, &ids).await?;
        let mut doors: Vec<_> = self.doors().into_iter().chain(now.iter().filter_map(Container::door)).collect();
        doors.dedup();
        Ok(doors)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn lease(&self) -> Duration {
        self.found.lease()
    }

    fn skipped(&self) -> &[String] {
        &self.skipped
    }

    async fn make(&self) -> Result<Make, GroundError> {
        let buzzer = self.inside(Part::Api(0), &["buzzer-api", "--version"]).await?;
        let buzzer = format!("buzzer {}", buzzer.split_whitespace().last().unwrap_or_default());
        let broker = match (&self.limits.version, self.found.has(Part::Broker)) {
            (Some(version), _) => format!("RabbitMQ {version}"),
            (None, true) => "RabbitMQ".into(),
            (None, false) => "a RabbitMQ of somebody else".into(),
        };
        let (store, version) = if self.found.has(Part::Store) {
            let said = self.inside(Part::Store, &["postgres", "--version"]).await.unwrap_or_default();
            let version = said.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
            ("postgres", format!("PostgreSQL {}", version.unwrap_or_default()).trim_end().to_owned())
        } else {
            ("given", "a store of somebody else".into())
        };
        Ok(Make { store, versions: vec![buzzer, broker, version] })
    }

    async fn memory(&self) -> Vec<(usize, u64)> {
        let looking = (0..self.found.apis()).map(async |at| {
            let api = self.found.part(Part::Api(at)).ok()?;
            let processes = self.docker.run(&["top", &api.id, "-eo", "pid,rss"]).await.ok()?;
            Some((at, largest(&processes)?))
        });
        join_all(looking).await.into_iter().flatten().collect()
    }

    async fn kill(&self, part: Part) -> Result<(), GroundError> {
        self.act("kill", part).await
    }

    async fn freeze(&self, part: Part) -> Result<(), GroundError> {
        self.act("pause", part).await
    }

    async fn thaw(&self, part: Part) -> Result<(), GroundError> {
        self.act("unpause", part).await
    }

    async fn stop(&self, part: Part) -> Result<Option<String>, GroundError> {
        self.act("stop", part).await?;
        match part {
            Part::Api(_) | Part::Worker(_) => self.unwell(&self.found.part(part)?.id).await,
            Part::Broker | Part::Store | Part::Proxy => Ok(None),
        }
    }

    async fn start(&self, part: Part) -> Result<(), GroundError> {
        self.act("start", part).await?;
        // Docker counts anew from here.
        self.restarts().insert(part, 0);
        Ok(())
    }

    async fn is_there(&self, part: Part) -> Result<(), GroundError> {
        let container = self.found.part(part)?;
        // Docker itself looks only now and then.
        let (Some(check), false) = (container.health_check(), matches!(part, Part::Worker(_))) else { return Ok(()) };
        let what = format!("{} to be well", container.name());
        let well = eventually(&what, START_LIMIT, async || match self.inside(part, &check).await {
            Ok(_) => Some(()),
            Err(_) => {
                sleep(AGAIN).await;
                None
            }
        });
        Ok(well.await?)
    }

    async fn add_worker(&self) -> Result<(), GroundError> {
        let worker = self.found.part(Part::Worker(0))?;
        // The file has most of its settings from the environment of whoever started it, under the same names.
        let variables = worker.variables().filter(|(name, _)| name.starts_with("BUZZER_"));
        let variables: Vec<_> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let scale = format!("worker={}", self.found.workers() + 1);
        let up = ["up", "--detach", "--no-deps", "--no-recreate", "--no-build", "--pull", "never", "--scale", &scale];
        let project = (self.found.project.as_str(), &worker.files());
        self.docker.compose(project, &variables, &[&up[..], &["worker"]].concat()).await.map(drop)
    }

    async fn remove_worker(&self) -> Result<Option<String>, GroundError> {
        let mut ended = None;
        for container in self.more().await? {
            self.docker.run(&["stop", &container.id]).await?;
            ended = ended.or(self.unwell(&container.id).await?);
            self.docker.run(&["rm", "--volumes", &container.id]).await?;
        }
        Ok(ended)
    }

    async fn strike(&self, fault: Fault) -> Result<Vec<Planted>, GroundError> {
        match fault {
            Fault::CutOff(part) => {
                let id = &self.found.part(part)?.id;
                for network in self.found.meeting_places(part).keys() {
                    self.docker.run(&["network", "disconnect", network, id]).await?;
                }
            }
            Fault::Broker(BrokerFault::CloseConnections) => self.ctl(&["close_all_connections", "by hand"]).await?,
            Fault::Broker(BrokerFault::MemoryAlarm) => {
                self.ctl(&["set_vm_memory_high_watermark", LITTLE_MEMORY]).await?;
            }
            Fault::Broker(BrokerFault::DiskAlarm) => self.ctl(&["set_disk_free_limit", MUCH_DISK]).await?,
            _ => return Err(GroundError::Unfit(fault)),
        }
        // Its queues are not ours.
        Ok(Vec::new())
    }

    async fn heal(&self, fault: Fault) -> Result<(), GroundError> {
        match fault {
            Fault::CutOff(part) => {
                let id = &self.found.part(part)?.id;
                for (network, place) in self.found.meeting_places(part) {
                    self.docker.run(&strings(&connect(id, &network, &place))[1..]).await?;
                }
                Ok(())
            }
            Fault::Broker(BrokerFault::CloseConnections) => Ok(()),
            Fault::Broker(BrokerFault::MemoryAlarm) => self.ctl(&strings(&self.limits.memory)).await,
            Fault::Broker(BrokerFault::DiskAlarm) => self.ctl(&strings(&self.limits.disk)).await,
            _ => Err(GroundError::Unfit(fault)),
        }
    }

    async fn ended(&self) -> Result<Vec<(Part, String)>, GroundError> {
        let now = containers(&self.docker, &self.found.project).await?;
        let mut ended = Vec::new();
        for (part, was) in self.found.parts() {
            let Some(is) = now.iter().find(|container| container.id == was.id) else {
                return Err(GroundError::said(was.name(), &"the container is gone: somebody else has removed it"));
            };
            let before = self.restarts().insert(part, is.restart_count).unwrap_or_default();
            if is.restart_count > before {
                ended.push((part, format!("Docker has started {} again", was.name())));
            } else if !is.state.running {
                ended.push((part, format!("exit code {}", is.state.exit_code)));
            }
        }
        Ok(ended)
    }

    async fn leave(&self, _: &[Kind]) -> Result<(), GroundError> {
        self.docker.rests().await;
        let script = self.found.restoration(&self.limits.all());
        let began = Instant::now();
        loop {
            self.docker.script(&script).await?;
            let differences = self.found.differences(&containers(&self.docker, &self.found.project).await?);
            if differences.is_empty() {
                break;
            }
            if began.elapsed() > LEAVE_LIMIT {
                let project = &self.found.project;
                return Err(GroundError::said(
                    format!("the project {project} is not as it was found"),
                    &differences.join("; "),
                ));
            }
            sleep(LOOK).await;
        }
        let guardian = self.guardian.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(guardian) = guardian {
            guardian.dismiss();
        }
        self.keep_logs().await
    }
}

impl Limits {
    /// What they are now.
    async fn of(docker: &Docker, broker: &Container) -> Result<Self, GroundError> {
        let said = docker.run(&["exec", &broker.id, "rabbitmqctl", "-q", "status", "--formatter", "json"]).await?;
        let status: Value =
            serde_json::from_str(&said).map_err(|error| GroundError::said("rabbitmqctl status", &error))?;
        Self::read(&status)
            .ok_or_else(|| GroundError::said("rabbitmqctl status", &"it does not tell RabbitMQ's limits"))
    }

    fn read(status: &Value) -> Option<Self> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let memory = &status["vm_memory_high_watermark_setting"];
        let memory = match (memory["absolute"].as_u64(), memory["relative"].as_f64()) {
            (Some(bytes), _) => words(&["set_vm_memory_high_watermark", "absolute", &bytes.to_string()]),
            (None, Some(share)) => words(&["set_vm_memory_high_watermark", &share.to_string()]),
            (None, None) => return None,
        };
        let disk = words(&["set_disk_free_limit", &status["disk_free_limit"].as_u64()?.to_string()]);
        Some(Self { version: status["rabbitmq_version"].as_str().map(str::to_owned), memory, disk })
    }

    fn all(&self) -> Vec<Vec<String>> {
        [&self.memory, &self.disk].into_iter().filter(|command| !command.is_empty()).cloned().collect()
    }
}

/// Every container of a project, whether or not it runs.
async fn containers(docker: &Docker, project: &str) -> Result<Vec<Container>, GroundError> {
    let label = format!("label=com.docker.compose.project={project}");
    let ids = docker.run(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &label]).await?;
    let ids: Vec<_> = ids.split_whitespace().collect();
    if ids.is_empty() { Ok(Vec::new()) } else { inspect(docker, &ids).await }
}

async fn inspect(docker: &Docker, ids: &[&str]) -> Result<Vec<Container>, GroundError> {
    let said = docker.run(&[&["inspect", "--type", "container"], ids].concat()).await?;
    serde_json::from_str(&said).map_err(|error| GroundError::said("docker inspect", &error))
}

async fn no_project(docker: &Docker, project: &str) -> GroundError {
    let format = "{{.Label \"com.docker.compose.project\"}}";
    let all = docker.run(&["ps", "--all", "--format", format]).await.unwrap_or_default();
    let mut others: Vec<_> = all.split_whitespace().collect();
    others.sort_unstable();
    others.dedup();
    let others = match others.as_slice() {
        [] => "there is none at all: docker compose up starts one".to_owned(),
        others => format!("there are: {}", others.join(", ")),
    };
    GroundError::Missing(format!("there is no Compose project {project}; {others}"))
}

/// The most that one of these processes holds, in bytes.
fn largest(processes: &str) -> Option<u64> {
    let kib = processes.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.max().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_limits_of_rabbitmq_are_set_as_they_were() {
        let status = |setting: Value| json!({ "rabbitmq_version": "4.3.6", "vm_memory_high_watermark_setting": setting, "disk_free_limit": 50_000_000 });
        let limits = Limits::read(&status(json!({ "absolute": 629_145_600 }))).unwrap();
        assert_eq!(limits.version.as_deref(), Some("4.3.6"));
        assert_eq!(limits.memory.join(" "), "set_vm_memory_high_watermark absolute 629145600");
        assert_eq!(limits.disk.join(" "), "set_disk_free_limit 50000000");
        let relative = Limits::read(&status(json!({ "relative": 0.6 }))).unwrap();
        assert_eq!(relative.memory.join(" "), "set_vm_memory_high_watermark 0.6");
        assert_eq!(Limits::read(&json!({ "disk_free_limit": 1 })), None, "what was not told cannot be set again");
        assert!(Limits::default().all().is_empty());
    }

    #[test]
    fn the_memory_of_an_api_is_that_of_its_largest_process() {
        assert_eq!(largest("PID                 RSS\n1735                39496\n1800 1024\n"), Some(39_496 * 1024));
        assert_eq!(largest("PID RSS\n"), None);
    }
}
