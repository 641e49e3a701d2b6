//! Docker, by its own command: it knows which engine is meant, and how to reach it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio_util::task::TaskTracker;

use crate::ground::GroundError;
use crate::wait::within;

/// Longer than a container may take to stop.
const LIMIT: Duration = Duration::from_secs(180);

/// The command `docker`. What was begun is brought to its end even if nobody waits for it any more: a container that is
/// half way to its stop cannot be put right.
#[derive(Debug, Default)]
pub(super) struct Docker(TaskTracker);

/// What `docker compose` has to know of a project beside its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) directory: PathBuf,
    pub(super) compose: Vec<PathBuf>,
    pub(super) environment: Vec<PathBuf>,
}

impl Docker {
    /// Runs it; what it printed.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<String, GroundError> {
        let mut command = Command::new("docker");
        command.args(arguments);
        let what = format!("docker {}", arguments.join(" "));
        self.output(command, &what).await
    }

    /// Runs `docker compose` for a project, with these variables.
    pub(super) async fn compose(
        &self,
        (project, files): (&str, &Files),
        variables: &[(String, String)],
        arguments: &[&str],
    ) -> Result<String, GroundError> {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", project, "--project-directory"]).arg(&files.directory);
        for file in &files.compose {
            command.arg("--file").arg(file);
        }
        for file in &files.environment {
            command.arg("--env-file").arg(file);
        }
        command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
        self.output(command, &format!("docker compose {}", arguments.join(" "))).await
    }

    /// Runs a script of such commands. What they say is of no interest.
    pub(super) async fn script(&self, script: &str) -> Result<(), GroundError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        self.output(command, "sh").await.map(drop)
    }

    /// Waits until nothing is under way any more.
    pub(super) async fn rests(&self) {
        self.0.close();
        self.0.wait().await;
        self.0.reopen();
    }

    async fn output(&self, mut command: Command, what: &str) -> Result<String, GroundError> {
        // Ctrl-C is meant for us alone.
        command.process_group(0).stdin(Stdio::null());
        let running = self.0.spawn(async move { command.output().await });
        let ended = within(what, LIMIT, running).await?;
        let ended = ended.map_err(|error| GroundError::said(what, &error))?;
        let Output { status, stdout, stderr } = ended.map_err(|source| match source.kind() {
            ErrorKind::NotFound => GroundError::Missing("there is no docker on the path: install Docker".into()),
            _ => GroundError::io("docker")(source),
        })?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        Err(refused(what, &String::from_utf8_lossy(&stderr)))
    }
}

/// What a refusal means, and what to do about it where that is known.
fn refused(what: &str, said: &str) -> GroundError {
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim();
    if said.contains("permission denied") && said.contains("docker.sock") {
        return GroundError::Missing(
            "this user may not use Docker: run it as root, or as a member of the group docker".into(),
        );
    }
    if said.contains("Cannot connect to the Docker daemon") || said.contains("error during connect") {
        return GroundError::Missing(format!("no Docker engine answers: start it, or name it in DOCKER_HOST ({last})"));
    }
    if said.contains("is not a docker command") || said.contains("unknown command: docker compose") {
        return GroundError::Missing("there is no docker compose: install Compose 2, the plugin of Docker".into());
    }
    GroundError::said(what, &last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        for (said, words) in [
            (
                "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: \
                 Get \"http://%2Fvar%2Frun%2Fdocker.sock/v1.50/info\": dial unix /var/run/docker.sock: connect: \
                 permission denied",
                "the group docker",
            ),
            (
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
                "no Docker engine answers: start it",
            ),
            ("docker: 'compose' is not a docker command.\nSee 'docker --help'", "install Compose 2"),
            (
                "Error response from daemon: No such container: x\n\n",
                "docker kill x: Error response from daemon: No such",
            ),
            ("", "it said nothing"),
        ] {
            let error = refused("docker kill x", said).to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
        }
    }

    #[tokio::test]
    async fn what_was_begun_is_brought_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("done");
        let docker = Docker::default();
        let script = format!("sleep 0.2; touch '{}'", file.display());
        let waited = tokio::time::timeout(Duration::from_millis(20), docker.script(&script)).await;
        assert!(waited.is_err() && !file.exists());
        docker.rests().await;
        assert!(file.exists());
    }
}
