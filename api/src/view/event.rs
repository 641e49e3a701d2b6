use buzzer_shared::id::{JobId, Tenant, WorkerId};
use buzzer_shared::problem::Problem;
use buzzer_shared::time::Time;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Content, JobView};
use crate::lifecycle::{Entry, LogType, Progress};
use crate::problem::ApiError;
use crate::store::{JobWithContent, Store};

/// One event of a job, as every transport shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EventView {
    /// 1, 2, 3, … within the job.
    pub seq: u32,
    pub at: Time,
    pub r#type: LogType,
    pub job_id: JobId,
    /// Which attempt was under way, or came next.
    pub attempt: u32,
    /// What else there is to say: `{run_at}` of `job.accepted`, where it is not to run at once, `{worker}` of `job.started`,
    /// `{percent, message}` of `job.progress`, `{text}` of `job.log`, `{chunk}` of `job.output`, `{limit}` of
    /// `job.truncated`, `{error, run_at}` of `job.retrying`; of the last event the job as `GET` shows it.
    #[schemars(with = "Option<EventData>")]
    pub data: Option<Box<RawValue>>,
}

/// What else there is to say of an event, by its type.
#[derive(JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
#[expect(dead_code, reason = "the log keeps data as JSON; this is its schema, by which the tests check each event")]
enum EventData {
    /// Of `job.accepted`, where it is not to run at once.
    Accepted {
        run_at: Time,
    },
    /// Of `job.started`.
    Started {
        worker: WorkerId,
    },
    /// Of `job.log`.
    Log {
        text: String,
    },
    /// Of `job.output`: the next piece, to look at before it is whole.
    Output {
        chunk: String,
    },
    /// Of `job.truncated`: how many bytes of a log are kept.
    Truncated {
        limit: u32,
    },
    /// Of `job.retrying`: why the attempt failed, and when the next one is due.
    Retrying {
        error: Problem,
        run_at: Time,
    },
    // Of `job.progress`; of the last event the job as `GET` shows it. With comments of their own these would be other types to
    // generators of code.
    Progress(Progress),
    Done(Box<JobView>),
}

impl EventView {
    /// An entry of a job's log with its data. `None` when the job was deleted meanwhile, and its log with it.
    ///
    /// # Errors
    /// When the store does not answer, or what it holds cannot be shown.
    pub async fn read(
        store: &dyn Store,
        tenant: &Tenant,
        job_id: JobId,
        entry: &Entry,
    ) -> Result<Option<Self>, ApiError> {
        if entry.r#type.is_terminal() {
            let found = store.job_with_content(tenant, job_id).await?;
            return found.map(|ended| Self::last(ended, entry)).transpose();
        }
        let Entry { seq, at, r#type, attempt, ref data } = *entry;
        Ok(Some(Self { seq, at, r#type, job_id, attempt, data: data.as_ref().map(raw).transpose()? }))
    }

    /// The last entry of a job's log, with the job as its data.
    ///
    /// # Errors
    /// When what the job holds cannot be shown.
    pub fn last(ended: JobWithContent, entry: &Entry) -> Result<Self, ApiError> {
        let JobWithContent { job, input, output } = ended;
        let data = Some(raw(&JobView::whole(&job, &Content { input, output }, None)?)?);
        let Entry { seq, at, r#type, attempt, .. } = *entry;
        Ok(Self { seq, at, r#type, job_id: job.id, attempt, data })
    }

    /// As JSON on one line. Inputs and outputs are kept as they came, and may have line breaks between their values.
    ///
    /// # Errors
    /// Never, as far as anybody knows: all of it is plain data.
    pub fn to_line(&self) -> Result<String, ApiError> {
        to_line(self)
    }
}

/// Anything as JSON on one line. What it holds was kept as it came, and may have line breaks between its values.
///
/// # Errors
/// When it is not plain data.
pub fn to_line(value: &impl Serialize) -> Result<String, ApiError> {
    let text = serde_json::to_string(value).map_err(|error| not_json(&error))?;
    // Within a JSON text, a line break can only be white space.
    Ok(if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text })
}

fn raw(value: &impl Serialize) -> Result<Box<RawValue>, ApiError> {
    serde_json::value::to_raw_value(value).map_err(|error| not_json(&error))
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::Internal(format!("an event is not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_its_job_was_sent_as() {
        let data = "{\r\n  \"a\\nb\": [1,\n2]}";
        let view = EventView {
            seq: 1,
            at: Time::from_millis(1),
            r#type: LogType::Succeeded,
            job_id: JobId::new(Time::from_millis(1)),
            attempt: 1,
            data: Some(RawValue::from_string(data.into()).unwrap()),
        };
        let line = view.to_line().unwrap();
        assert_eq!(line.lines().count(), 1);
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["data"], serde_json::from_str::<Value>(data).unwrap());
    }
}
