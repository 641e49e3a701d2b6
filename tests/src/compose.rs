//! A Buzzer in containers: `docker-compose.yml` as it stands, under a project name of its own, on ports that are free.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use buzzer_prove::ground::guardian::Guardian;
use tokio::process::Command;

use crate::client::Client;
use crate::wait::{eventually, within};

/// To build every image from nothing, on a busy machine.
const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);
/// For all containers to be there and well.
const START_LIMIT: Duration = Duration::from_secs(300);
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// A running project. Taken down with all that it kept once this process is gone.
#[derive(Debug)]
pub struct Project {
    name: String,
    /// Where the proxy listens. A port that Docker chooses would be another after each restart.
    port: u16,
    /// An API key, of the operator.
    key: String,
    _guardian: Guardian,
}

/// Whether there is a Docker engine with Compose on this machine.
pub async fn docker_answers() -> bool {
    let asked = async |arguments: &[&str]| {
        let status = Command::new("docker").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        status.is_ok_and(|status| status.success())
    };
    asked(&["info"]).await && asked(&["compose", "version"]).await
}

impl Project {
    /// Builds the images and starts two APIs behind the proxy, RabbitMQ, PostgreSQL and a worker.
    ///
    /// # Panics
    /// When that fails.
    pub async fn up() -> Self {
        let name = format!("buzzer-{:08x}", fastrand::u32(..));
        let guardian = Guardian::of_compose_project(&name).expect("a shell");
        let mut project = Self { name, port: free_port(), key: String::new(), _guardian: guardian };
        project.compose_within(BUILD_LIMIT, &["build"]).await;
        let up = ["up", "--detach", "--wait", "--scale", "api=2", "--scale", "worker=1"];
        project.compose_within(START_LIMIT, &up).await;
        let create = ["exec", "-T", "api", "buzzer", "keys", "create", "--scope", "operator"];
        project.key = project.compose(&create).await.trim().to_owned();
        project
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// An API key, of the operator.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What its clients talk to.
    pub fn client(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.port)).with_key(&self.key)
    }

    /// So many containers of each of these services, the others as they are.
    pub async fn scale(&self, service: &str, count: usize) {
        let scale = format!("{service}={count}");
        self.compose_within(START_LIMIT, &["up", "--detach", "--no-deps", "--no-recreate", "--scale", &scale, service])
            .await;
    }

    /// The containers of a service, or of all that run; by id.
    pub async fn containers(&self, service: &[&str]) -> Vec<String> {
        let list = self.compose(&[&["ps", "--quiet"], service].concat()).await;
        list.lines().map(str::to_owned).collect()
    }

    /// Kills a container at once, as a crash would.
    pub async fn kill(&self, container: &str) {
        docker(&["kill", container]).await;
    }

    /// Starts what was killed or stopped.
    pub async fn start(&self, container: &str) {
        docker(&["start", container]).await;
    }

    /// Stops a container in good order, within its grace period.
    pub async fn stop(&self, container: &str) {
        docker(&["stop", "--time", "60", container]).await;
    }

    /// Takes a container off the network of the broker, where the others find it.
    pub async fn cut_off(&self, container: &str) {
        docker(&["network", "disconnect", &self.network("broker"), container]).await;
    }

    /// Puts it back under the name of its service.
    pub async fn put_back(&self, container: &str, service: &str) {
        docker(&["network", "connect", "--alias", service, &self.network("broker"), container]).await;
    }

    /// Waits until a job goes all the way again.
    pub async fn heals(&self, client: &Client) {
        eventually("a job to go all the way", START_LIMIT, async || {
            let answer = client.submit("echo", &serde_json::json!("well?"), None).await.ok()?;
            let id = (answer.status.as_u16() == 202).then(|| answer.json()["id"].as_str().map(str::to_owned))??;
            Some(client.done(&id, START_LIMIT).await)
        })
        .await;
    }

    /// Runs `docker compose` for this project; what it printed.
    pub async fn compose(&self, arguments: &[&str]) -> String {
        self.compose_within(COMMAND_LIMIT, arguments).await
    }

    async fn compose_within(&self, limit: Duration, arguments: &[&str]) -> String {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &self.name]).args(arguments);
        // What the user's own environment says is not meant for this project.
        command
            .env("COMPOSE_PROFILES", "replicas")
            .env("BUZZER_API_PORT", "0")
            .env("BUZZER_PORT", self.port.to_string());
        command.env("BUZZER_DEMO", "1").env("BUZZER_SLOTS", "8");
        printed(limit, command, arguments).await
    }

    /// A network as Docker calls it.
    pub fn network(&self, name: &str) -> String {
        format!("{}_{name}", self.name)
    }
}

/// A port of this machine that nobody has now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Runs `docker`; what it printed.
///
/// # Panics
/// When it fails.
pub async fn docker(arguments: &[&str]) -> String {
    let mut command = Command::new("docker");
    command.args(arguments);
    printed(COMMAND_LIMIT, command, arguments).await
}

async fn printed(limit: Duration, mut command: Command, arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    command.current_dir(root).stdin(Stdio::null()).kill_on_drop(true);
    let Output { status, stdout, stderr } =
        within(&format!("docker {arguments:?}"), limit, command.output()).await.expect("docker");
    let (told, errors) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "docker {arguments:?}: {told}{errors}");
    told.into_owned()
}
