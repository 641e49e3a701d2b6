use aide::transform::TransformOperation;
use axum::extract::State;
use axum::response::Html;

use crate::extract::Path;
use crate::problem::{self, ApiError, ProblemType};
use crate::state::AppState;

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub(super) struct ProblemPath {
    /// The last part of the problem's `type`.
    slug: String,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.id("getProblem")
        .tag("operation")
        .summary("What a problem means")
        .description("A page for people: what a problem of this `type` means, and what to do.")
}

pub(super) async fn page(State(_): State<AppState>, path: Path<ProblemPath>) -> Result<Html<String>, ApiError> {
    let found = problem::ALL.iter().find(|problem| problem.slug == path.0.slug);
    found.map(|problem| Html(html(problem))).ok_or_else(|| ApiError::NoSuchPath(format!("/problems/{}", path.0.slug)))
}

fn html(problem: &ProblemType) -> String {
    let ProblemType { slug, status, title, explanation } = problem;
    let status = match status {
        Some(status) => format!("Answered with HTTP {}.", status.as_u16()),
        None => "Stands in the <code>error</code> of a job.".into(),
    };
    let explanation: String = explanation
        .split('`')
        .enumerate()
        .map(|(at, part)| if at % 2 == 1 { format!("<code>{part}</code>") } else { part.into() })
        .collect();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <body style=\"font:1rem/1.5 system-ui;max-width:40rem;margin:3rem auto;padding:0 1rem\">\
         <h1>{title}</h1><p>{explanation}</p><p>{status} Type: <code>/problems/{slug}</code></p></body></html>\n"
    )
}
