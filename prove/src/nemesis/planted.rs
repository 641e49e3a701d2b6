//! What the nemesis puts into queues, and nobody can use: each is marked, so that it is known again where it was parked.

use buzzer_shared::id::RunId;
use serde_json::Value;

/// A user of RabbitMQ that may write to Buzzer's exchanges, and is no worker.
pub const STRANGER: &str = "stranger";
/// The header that has the mark of what nobody can read.
pub const HEADER: &str = "prove";

/// A message that must be parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planted {
    pub mark: String,
    /// RabbitMQ has said that it has it. Without that it may be there or not.
    pub is_confirmed: bool,
}

/// The mark of a message that has nothing at all, so that only its queue can tell.
pub fn bare(queue: &str) -> String {
    format!("nothing in {queue}")
}

/// The mark of what a stranger said of a run.
pub fn forged(run: RunId) -> String {
    forgery(&run.to_string())
}

fn forgery(id: &str) -> String {
    format!("forged {id}")
}

/// The mark of a parked message, as `/v1/parked` shows it. `None`: it is not of the nemesis.
pub fn mark_of(parked: &Value) -> Option<String> {
    let header = |name: &str| parked["headers"][name].as_str();
    if header("parked-sender") == Some(STRANGER) {
        return Some(forgery(parked["message_id"].as_str()?));
    }
    if let Some(mark) = header(HEADER) {
        return Some(mark.to_owned());
    }
    let is_bare = parked["size"] == 0 && parked["type"] == "" && parked["message_id"].is_null();
    is_bare.then(|| bare(parked["from"].as_str().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_planted_bears_a_mark() {
        let run: RunId = "01900000-0000-7000-8000-000000000000/3".parse().unwrap();
        let of_stranger = json!({ "message_id": run.to_string(), "headers": { "parked-sender": STRANGER } });
        assert_eq!(mark_of(&of_stranger), Some(forged(run)));
        let of_worker = json!({ "message_id": run.to_string(), "headers": { "parked-sender": "worker" } });
        assert_eq!(mark_of(&of_worker), None);
        assert_eq!(mark_of(&json!({ "headers": { HEADER: "7" } })), Some("7".into()));
        let bare_one = json!({ "from": "q", "type": "", "message_id": null, "headers": {}, "size": 0 });
        assert_eq!(mark_of(&bare_one), Some(bare("q")));
        let outcome = json!({ "from": "q", "type": "buzzer.outcome.v1", "message_id": null, "headers": {}, "size": 0 });
        assert_eq!(mark_of(&outcome), None);
    }
}
