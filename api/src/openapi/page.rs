//! The document as a page for people, who may try each call there. It brings along all that it needs.

use std::sync::LazyLock;

use aide::swagger::Swagger;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, header};
use sha2::{Digest, Sha256};

/// Made once, when somebody first asks for it: it has more than a megabyte.
static PAGE: LazyLock<Page> = LazyLock::new(|| Page::of(Swagger::new("/openapi.json").with_title("Buzzer").html()));

struct Page {
    html: Bytes,
    policy: HeaderValue,
}

impl Page {
    /// A page that runs its own scripts and no others, and talks to nobody but its server.
    fn of(html: String) -> Self {
        let scripts: String = scripts(&html).map(|script| format!(" 'sha256-{}'", hash(script))).collect();
        let policy = format!(
            "default-src 'none'; script-src{scripts}; style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let policy = HeaderValue::from_str(&policy).expect("base64 and words are visible ASCII");
        Self { html: html.into(), policy }
    }
}

/// The inline scripts of a page. One may well have the text `<script>` in it, and ends where it is closed.
fn scripts(mut html: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (script, rest) = html.split_once("<script>")?.1.split_once("</script>")?;
        html = rest;
        Some(script)
    })
}

fn hash(script: &str) -> String {
    STANDARD.encode(Sha256::digest(script))
}

pub(super) async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, PAGE.policy.clone()),
        // What it shows is asked for anew by itself.
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
    ];
    (headers, PAGE.html.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_run_the_scripts_that_it_has() {
        let page = Page::of("<p>a</p><script>alert('<script>')</script>c<script>b</script>".into());
        let policy = page.policy.to_str().unwrap();
        // As `printf b | openssl dgst -sha256 -binary | base64` has it, and the same of the other.
        let one = "'sha256-RvjnucC+kLj48OR1b/w53NAAxP2K/xrUkAiMEjy5faU='";
        let other = "'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0='";
        assert!(policy.contains(&format!("script-src {one} {other};")), "{policy}");
    }
}
