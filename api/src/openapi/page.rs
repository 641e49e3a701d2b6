//! The page that shows the document, with all that it needs: a browser asks nobody else.

use std::sync::LazyLock;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use aide::swagger::Swagger;
use aide::transform::TransformOperation;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, header};

use crate::header::{HeaderDoc, gives};
use crate::state::AppState;

const PAGE: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>Buzzer</title>
<link rel=\"icon\" href=\"data:,\">
<link rel=\"stylesheet\" href=\"docs/swagger-ui.css\">
<body>
<div id=\"page\"></div>
<script src=\"docs/swagger-ui.js\"></script>
<script src=\"docs/page.js\"></script>
</body>
</html>
";

/// Without a `validatorUrl` it would have the document looked at by a server of somebody else.
const SCRIPT: &str = "SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#page',
  layout: 'BaseLayout',
  presets: [SwaggerUIBundle.presets.apis],
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
});
";

/// A browser may ask this server, and nobody else; and no script runs but those of the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For what changes with the version of this program alone. A day, so that nobody keeps it long after an upgrade.
const KEPT: &str = "public, max-age=86400";

/// Swagger UI, which aide carries within a page of its own.
static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let page = Swagger::new("").html();
    let between = |begin: &str, end: &str| {
        let rest = page.split_once(begin).map(|(_, rest)| rest);
        rest.and_then(|rest| rest.split_once(end)).map(|(part, _)| part.to_owned()).unwrap_or_default()
    };
    Assets { script: between("<script>", "</script>").into(), style: between("<style>", "</style>").into() }
});

struct Assets {
    script: bytes::Bytes,
    style: bytes::Bytes,
}

pub(crate) fn router() -> ApiRouter<AppState> {
    ApiRouter::new()
        .api_route("/docs", get_with(page, doc))
        // Parts of the page: they are not in the document.
        .route("/docs/page.js", get(async || part("text/javascript", SCRIPT)))
        .route("/docs/swagger-ui.js", get(async || part("text/javascript", ASSETS.script.clone())))
        .route("/docs/swagger-ui.css", get(async || part("text/css", ASSETS.style.clone())))
}

fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    const HEADERS: &[HeaderDoc] = &[HeaderDoc::CONTENT_SECURITY_POLICY.always(), HeaderDoc::CACHE_CONTROL.always()];
    op.id("getDocs")
        .tag("operation")
        .summary("This document, as a page")
        .description(
            "Shows `/openapi.json` with the kinds that are known now, and tries things out. It asks no other server.",
        )
        .response_with::<200, Html<String>, _>(|r| gives(r.description("The page."), HEADERS))
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, Html(PAGE)).into_response()
}

fn part(media_type: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static(KEPT)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, body.into()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_needs_is_there() {
        let script = std::str::from_utf8(&ASSETS.script).unwrap();
        let style = std::str::from_utf8(&ASSETS.style).unwrap();
        assert!(script.len() > 500_000 && script.contains("SwaggerUIBundle"), "{}", script.len());
        assert!(style.len() > 50_000 && style.contains(".swagger-ui"), "{}", style.len());
    }
}
