//! Which server, and what lets in there.

use buzzer_api::auth::{NotAKey, Secret};
use buzzer_shared::from_file::{FromFile, InvalidFile};
use clap::Args;
use url::Url;

use super::ClientError;

/// Which server.
#[derive(Debug, Clone, Args)]
pub struct ServerConfig {
    /// Where Buzzer answers.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "BUZZER_SERVER",
        default_value = "http://127.0.0.1:8080",
        value_parser = server,
        help_heading = "Server"
    )]
    server: Url,

    /// The API key to get in with. Other users of this machine see what stands here, but not `BUZZER_KEY`.
    #[arg(
        long,
        global = true,
        env = "BUZZER_KEY",
        hide_env_values = true,
        value_parser = key,
        help_heading = "Server"
    )]
    key: Option<Secret>,

    /// A file that holds the API key, so that it need not stand in the environment.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "BUZZER_KEY_FILE",
        conflicts_with = "key",
        help_heading = "Server"
    )]
    key_file: Option<String>,
}

impl ServerConfig {
    /// One without a key.
    #[cfg(test)]
    pub(super) fn at(server: Url) -> Self {
        Self { server, key: None, key_file: None }
    }

    /// The server, and the key to get in with.
    ///
    /// # Errors
    /// When the key's file holds none.
    pub fn read(self) -> Result<(Url, Option<Secret>), ClientError> {
        let server = self.server.clone();
        Ok((server, self.key()?))
    }

    /// Reads the file only here: `buzzer keys create >key` is just about to write it.
    fn key(self) -> Result<Option<Secret>, InvalidFile> {
        let Some(file) = self.key_file else { return Ok(self.key) };
        let secret: FromFile<Secret> = file.parse()?;
        Ok(Some(Secret::clone(&secret)))
    }
}

fn key(text: &str) -> Result<Secret, String> {
    text.parse().map_err(|error: NotAKey| format!("{error}; the idempotency key of a job is --idempotency-key"))
}

fn server(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Err("leave user and password out: they would be printed with each error".into())
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("expected a URL like http://127.0.0.1:8080".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_key_is_read_by_who_talks_to_a_server() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = file.path().to_str().unwrap();
        let config =
            || ServerConfig { server: server("http://a").unwrap(), key: None, key_file: Some(name.parse().unwrap()) };
        let refused = config().key().unwrap_err().to_string();
        assert!(refused.contains(name) && refused.contains("is empty"), "{refused}");
        let key = Secret::random().unwrap();
        std::fs::write(file.path(), key.reveal()).unwrap();
        assert_eq!(config().key().unwrap(), Some(key));
    }

    #[test]
    fn a_text_that_is_no_key_is_refused_and_not_repeated() {
        let refused = key("order-4711").unwrap_err();
        assert!(refused.contains("--idempotency-key") && !refused.contains("4711"), "{refused}");
    }

    #[test]
    fn a_server_is_a_url_of_http_without_a_password() {
        for bad in ["127.0.0.1:8080", "ftp://127.0.0.1", "http://user:secret@a"] {
            assert!(server(bad).is_err_and(|error| !error.contains("secret")), "{bad}");
        }
        assert!(server("https://example.test/buzzer").is_ok());
    }
}
