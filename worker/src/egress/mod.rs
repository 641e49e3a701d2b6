//! The way out into the world: every call that a job asks for is made here, and reaches public addresses only.
//!
//! Which those are, `buzzer_shared::egress` decides.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::egress::{AllowList, Reach, Refused};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Request, Response, redirect};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tracing::warn;
use url::Url;

/// For a name to be resolved and a connection to be made, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Who calls, unless the request says otherwise.
const USER_AGENT: &str = concat!("buzzer/", env!("CARGO_PKG_VERSION"));

/// Makes calls as far as its [`Reach`] goes, and no further. Cheap to clone.
///
/// What is checked is the address that is dialled: a name is resolved once, the connection goes to what was found
/// allowed, and a name that changes its mind in between (rebinding) gains nothing. Redirects are not followed, for
/// each must pass this gate itself; proxies are not used, for they would resolve names for us; connections are not
/// shared between calls; a body comes as it was sent, never decompressed.
#[derive(Debug, Clone)]
pub(crate) struct Egress {
    reach: Reach,
    client: Client,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EgressError {
    #[error("only http and https can be called")]
    WrongScheme,
    #[error("a user name or password does not belong into a URL")]
    Credentials,
    /// Says neither the address nor what is there: that would map the network for whoever asks.
    #[error("this address is not allowed; the worker's BUZZER_EGRESS_ALLOW can allow it")]
    NotAllowed,
    /// No connection, or it broke. Another time may be better.
    #[error("{0}")]
    Unreachable(String),
}

impl Egress {
    /// To public addresses and to those that the list names.
    pub(crate) fn new(allow: AllowList) -> Self {
        Self::reaching(Reach::public_and(allow))
    }

    pub(crate) fn reaching(reach: Reach) -> Self {
        Self::resolving_with(reach, Arc::new(SystemNames))
    }

    fn resolving_with(reach: Reach, names: Arc<dyn Resolve>) -> Self {
        let client = Client::builder()
            .tls_backend_preconfigured(tls())
            .dns_resolver(AllowedNames { names, reach: reach.clone() })
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_LIMIT)
            .user_agent(USER_AGENT)
            .build()
            .expect("settings that are the same at every start make a client");
        Self { reach, client }
    }

    /// Refuses what would be refused before anything is dialled.
    ///
    /// # Errors
    /// Any [`EgressError`] but `Unreachable`.
    pub(crate) fn check(&self, url: &Url) -> Result<(), EgressError> {
        Ok(self.reach.check(url)?)
    }

    /// Makes a call, and answers as soon as status and headers are there. Sets no limit to how long that takes.
    ///
    /// # Errors
    /// See [`EgressError`]: all but `Unreachable` come before anything was dialled.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, EgressError> {
        self.check(request.url())?;
        self.client.execute(request).await.map_err(EgressError::from)
    }
}

impl From<Refused> for EgressError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::WrongScheme => Self::WrongScheme,
            Refused::Credentials => Self::Credentials,
            Refused::NotAllowed => Self::NotAllowed,
        }
    }
}

impl From<reqwest::Error> for EgressError {
    /// Keeps the innermost cause alone: what is around it repeats the URL, which may hold secrets.
    fn from(error: reqwest::Error) -> Self {
        let mut cause: &(dyn Error + 'static) = &error.without_url();
        loop {
            if let Some(Self::NotAllowed) = cause.downcast_ref() {
                return Self::NotAllowed;
            }
            match cause.source() {
                Some(deeper) => cause = deeper,
                None => return Self::Unreachable(cause.to_string()),
            }
        }
    }
}

/// Resolves names to the allowed ones of their addresses.
struct AllowedNames {
    names: Arc<dyn Resolve>,
    reach: Reach,
}

impl Resolve for AllowedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, found) = (self.reach.clone(), self.names.resolve(name));
        Box::pin(async move {
            let mut allowed = found.await?.filter(move |address| reach.permits(address.ip())).peekable();
            match allowed.peek() {
                Some(_) => Ok(Box::new(allowed) as Addrs),
                None => Err(EgressError::NotAllowed.into()),
            }
        })
    }
}

/// Resolves names as the system does.
struct SystemNames;

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The port is a placeholder: the URL has the real one.
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// TLS with ring, whatever provider the process has or has not, and with the system's authorities.
fn tls() -> ClientConfig {
    let builder = || {
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
    };
    let verifying = builder().with_platform_verifier().unwrap_or_else(|error| {
        // No reason not to start: nobody may ever call a server with TLS.
        warn!(%error, "Calls over https will fail: install the system's authorities (ca-certificates), and restart");
        builder().with_root_certificates(RootCertStore::empty())
    });
    let mut tls = verifying.with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tls
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, SocketAddr, TcpListener};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use reqwest::{Method, StatusCode};

    /// Counts connections, and answers none.
    struct Trap(TcpListener);

    impl Trap {
        fn at(address: &str) -> Self {
            let trap = TcpListener::bind(address).unwrap();
            trap.set_nonblocking(true).unwrap();
            Self(trap)
        }

        fn port(&self) -> u16 {
            self.0.local_addr().unwrap().port()
        }

        /// How many connections were made; the system has them even if nobody took them yet.
        fn connections(&self) -> usize {
            std::iter::from_fn(|| self.0.accept().ok()).count()
        }
    }

    /// Answers every request of one address and port with an empty `200`.
    async fn serve(address: SocketAddr) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().fallback(|| async {});
        tokio::spawn(axum::serve(listener, app).into_future());
        address
    }

    /// Gives another answer each time it is asked; the last one for ever.
    struct Fickle {
        answers: Vec<Vec<IpAddr>>,
        asked: AtomicUsize,
    }

    impl Fickle {
        fn new(answers: &[&[&str]]) -> Arc<Self> {
            let addresses = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            Arc::new(Self { answers: answers.iter().map(addresses).collect(), asked: AtomicUsize::new(0) })
        }
    }

    impl Resolve for Fickle {
        fn resolve(&self, _: Name) -> Resolving {
            let at = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
            let found: Vec<_> = self.answers[at].iter().map(|address| SocketAddr::new(*address, 0)).collect();
            Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) })
        }
    }

    fn allow(text: &str) -> AllowList {
        text.parse().unwrap()
    }

    async fn get(egress: &Egress, url: &str) -> Result<StatusCode, EgressError> {
        let call = egress.send(Request::new(Method::GET, url.parse().unwrap()));
        let answer = tokio::time::timeout(CONNECT_LIMIT, call).await;
        // A trap takes the connection and says nothing.
        answer.unwrap_or_else(|_| panic!("{url} was called")).map(|response| response.status())
    }

    #[tokio::test]
    async fn no_notation_of_a_private_address_gets_through() {
        let egress = Egress::new(AllowList::default());
        let trap = Trap::at("127.0.0.1:0");
        for host in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "127.0.1",
            "0x7f.1",
            "0x7f000001",
            "0X7F.0x0.0X0.0x1",
            "2130706433",
            "017700000001",
            "0177.0.0.1",
            "0177.0.0.01.",
            "0",
            "0.0.0.0",
            "127%2e0%2e0%2e1",
            "１２７。０。０。１",
            "①②⑦.0.0.1",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:ffff:7f00:0001]",
            "[::127.0.0.1]",
            "[::ffff:0:7f00:1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::7f00:1]",
            "[2002:7f00:1::]",
            "[2001::7f00:1]",
            "localhost",
            "LOCALHOST",
        ] {
            let error = get(&egress, &format!("http://{host}:{}/", trap.port())).await.unwrap_err();
            assert!(matches!(error, EgressError::NotAllowed), "{host}: {error}");
        }
        assert_eq!(trap.connections(), 0);
    }

    /// Only checked, never sent: if the guard were broken, the test itself would ask the real service.
    #[test]
    fn metadata_of_clouds_cannot_be_read() {
        let egress = Egress::new(AllowList::default());
        for host in ["169.254.169.254", "0xa9fea9fe", "[fd00:ec2::254]", "100.100.100.200", "192.0.0.192"] {
            let checked = egress.reach.check(&format!("http://{host}/").parse().unwrap());
            assert!(checked == Err(Refused::NotAllowed), "{host}: {checked:?}");
        }
    }

    #[tokio::test]
    async fn a_url_has_no_other_scheme_and_no_credentials() {
        let egress = Egress::new(allow("0.0.0.0/0"));
        let trap = Trap::at("127.0.0.1:0");
        let port = trap.port();
        for scheme in ["ftp", "gopher", "ws", "file"] {
            let error = get(&egress, &format!("{scheme}://127.0.0.1/")).await.unwrap_err();
            assert!(matches!(error, EgressError::WrongScheme), "{scheme}: {error}");
        }
        for user in ["user@", "user:password@", ":password@", "example.com@"] {
            let error = get(&egress, &format!("http://{user}127.0.0.1:{port}/")).await.unwrap_err();
            assert!(matches!(error, EgressError::Credentials), "{user}");
        }
        assert_eq!(trap.connections(), 0);
    }

    #[tokio::test]
    async fn what_the_list_names_can_be_called_and_its_neighbours_cannot() {
        let address = serve(([127, 0, 0, 1], 0).into()).await;
        let egress = Egress::new(allow("127.0.0.1"));
        for host in ["127.0.0.1", "0x7f.1", "localhost", "[::ffff:127.0.0.1]"] {
            let answer = get(&egress, &format!("http://{host}:{}/", address.port())).await;
            assert_eq!(answer.unwrap(), StatusCode::OK, "{host}");
        }
        let trap = Trap::at("127.0.0.2:0");
        let error = get(&egress, &format!("http://127.0.0.2:{}/", trap.port())).await.unwrap_err();
        assert!(matches!(error, EgressError::NotAllowed), "{error}");
        assert_eq!(trap.connections(), 0);
    }

    /// A name that is resolved again between check and connection would lead to the trap.
    #[tokio::test]
    async fn a_name_that_changes_its_mind_gains_nothing() {
        let good = serve(([127, 0, 0, 2], 0).into()).await;
        let trap = Trap::at(&format!("127.0.0.1:{}", good.port()));
        let names = Fickle::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
        let egress = Egress::resolving_with(Reach::public_and(allow("127.0.0.2")), Arc::<Fickle>::clone(&names));
        let url = format!("http://rebinding.example:{}/", good.port());
        assert_eq!(get(&egress, &url).await.unwrap(), StatusCode::OK);
        assert_eq!(names.asked.load(Ordering::SeqCst), 1);
        for url in [url.clone(), url.replace(".example", ".example.")] {
            let error = get(&egress, &url).await.unwrap_err();
            assert!(matches!(error, EgressError::NotAllowed), "{url}: {error}");
        }
        assert_eq!(names.asked.load(Ordering::SeqCst), 3);
        assert_eq!(trap.connections(), 0);
    }

    #[tokio::test]
    async fn of_several_addresses_only_the_allowed_ones_are_dialled() {
        let good = serve(([127, 0, 0, 2], 0).into()).await;
        let trap = Trap::at(&format!("127.0.0.1:{}", good.port()));
        let names = Fickle::new(&[&["127.0.0.1", "::1", "127.0.0.2", "::ffff:127.0.0.1", "10.0.0.1"]]);
        let egress = Egress::resolving_with(Reach::public_and(allow("127.0.0.2")), names);
        let url = format!("http://several.example:{}/", good.port());
        assert_eq!(get(&egress, &url).await.unwrap(), StatusCode::OK);
        assert_eq!(trap.connections(), 0);
    }

    #[tokio::test]
    async fn a_failure_tells_its_cause_and_nothing_of_the_url() {
        let egress = Egress::new(allow("127.0.0.0/8"));
        let port = Trap::at("127.0.0.1:0").port();
        for scheme in ["http", "https"] {
            let error = get(&egress, &format!("{scheme}://127.0.0.1:{port}/s3cret?key=s3cret")).await.unwrap_err();
            assert!(matches!(&error, EgressError::Unreachable(cause) if cause.contains("refused")), "{error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
