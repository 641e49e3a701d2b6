use std::sync::Arc;

use buzzer_shared::kind::Kind;

use super::schema::Schema;
use crate::builder::WorkerBuilder;
use crate::context::JobContext;
use crate::error::JobError;
use crate::exec::{self, Program};
use crate::handler::{HandlerOptions, RawJson, Runner};
use crate::push::{self, Service};

/// A kind that was declared, with who does its work.
#[derive(Debug)]
pub(crate) struct DeclaredKind {
    pub(super) name: Kind,
    pub(super) options: HandlerOptions,
    pub(super) input: Schema,
    pub(super) output: Schema,
    pub(super) work: Work,
    /// The file that declares it, and the line there.
    pub(super) place: String,
}

/// Who does the work.
#[derive(Debug)]
pub(super) enum Work {
    Exec(Program),
    Push(Service),
}

impl DeclaredKind {
    /// Adds it to what a worker runs.
    pub(crate) fn register(self: &Arc<Self>, worker: WorkerBuilder) -> WorkerBuilder {
        let kind = Arc::clone(self);
        let runner = Runner::of_async(move |ctx, input| {
            let kind = Arc::clone(&kind);
            async move { kind.run(ctx, input).await }
        });
        let schemas = (self.input.written.clone(), self.output.written.clone());
        worker.with_schemas(self.name.as_str(), self.options.clone(), schemas, runner).declared_at(&self.place)
    }

    async fn run(&self, ctx: JobContext, input: RawJson) -> Result<RawJson, JobError> {
        let input = input.as_bytes();
        // The API has looked already, but perhaps with the schema of another worker.
        if let Some(misfit) = self.input.misfit(input) {
            return Err(JobError::unfit_input(misfit));
        }
        let output = match &self.work {
            Work::Exec(program) => program.run(&self.name, &ctx, input).await,
            Work::Push(service) => service.call(&self.name, &ctx, input).await,
        }?;
        match self.output.misfit(output.as_bytes()) {
            None => Ok(output),
            Some(misfit) => Err(self.work.misfit(&misfit)),
        }
    }
}

impl Work {
    /// Its output is not what the kind's schema says.
    fn misfit(&self, misfit: &str) -> JobError {
        let detail = format!("The output does not fit the schema in worker.toml: {misfit}.");
        match self {
            Self::Exec(_) => exec::broken(detail),
            Self::Push(_) => push::broken(detail),
        }
    }
}
