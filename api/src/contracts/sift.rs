//! Whether what a worker says of its kinds is taken.

use std::collections::{HashMap, HashSet};

use buzzer_shared::contract::{examine, runnable};
use buzzer_shared::kind::{KindSpec, Refusal};
use buzzer_shared::message::Announce;
use buzzer_shared::text::shorten;
use sha2::{Digest, Sha256};

/// So many kinds may one worker run.
pub const KINDS_MAX: usize = 256;
/// So much is kept of what is not taken, of one worker.
const REFUSALS_MAX: usize = 50;
/// So many refusals are remembered, of all workers together.
const REMEMBERED_MAX: usize = 1_000;
/// In bytes.
const NAME_MAX: usize = 100;
/// In bytes.
const REASON_MAX: usize = 500;

/// Moves what cannot be taken to what is refused. What `is_taken` already is not looked at again, and neither is what
/// `refused` knows: to look costs time, and every worker announces itself every half minute.
pub fn sift(announce: &mut Announce, is_taken: impl Fn(&KindSpec) -> bool, refused: &mut Refused) {
    let mut names = HashSet::new();
    let specs = std::mem::take(&mut announce.kinds);
    for spec in specs {
        let examined = if names.contains(&spec.name) {
            Err("the worker names it twice: leave one out".into())
        } else if names.len() == KINDS_MAX {
            Err(format!("a worker runs at most {KINDS_MAX} kinds: let another one run it"))
        } else if is_taken(&spec) {
            // How many runs there may be at a time is no part of the contract.
            runnable(&spec)
        } else {
            refused.or_examine(&spec, examine)
        };
        match examined {
            Ok(()) => {
                names.insert(spec.name.clone());
                announce.kinds.push(spec);
            }
            Err(reason) => announce.refused.push(Refusal { kind: spec.name.to_string(), reason }),
        }
    }
    announce.refused.truncate(REFUSALS_MAX);
    for Refusal { kind, reason } in &mut announce.refused {
        *kind = shorten(std::mem::take(kind), NAME_MAX);
        *reason = shorten(std::mem::take(reason), REASON_MAX);
    }
}

/// What was examined and not taken, whoever said it, with the reason.
#[derive(Debug, Default)]
pub struct Refused {
    /// By the SHA-256 of what was said.
    reasons: HashMap<[u8; 32], String>,
}

impl Refused {
    fn or_examine(
        &mut self,
        spec: &KindSpec,
        examine: impl FnOnce(&KindSpec) -> Result<(), String>,
    ) -> Result<(), String> {
        let Ok(said) = serde_json::to_vec(spec) else { return examine(spec) };
        let digest = Sha256::digest(said).into();
        if let Some(reason) = self.reasons.get(&digest) {
            return Err(reason.clone());
        }
        examine(spec).inspect_err(|reason| {
            // Who says always something else makes it forget, and nothing more.
            if self.reasons.len() == REMEMBERED_MAX {
                self.reasons.clear();
            }
            self.reasons.insert(digest, shorten(reason.clone(), REASON_MAX));
        })
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::id::WorkerId;
    use buzzer_shared::time::Time;
    use serde_json::json;

    use super::*;

    fn spec(name: &str) -> KindSpec {
        KindSpec::any(name.parse().unwrap())
    }

    fn announce(kinds: Vec<KindSpec>) -> Announce {
        let at = Time::from_millis(1);
        Announce {
            worker: WorkerId::new(at),
            host: "box".into(),
            version: "1".into(),
            started_at: at,
            kinds,
            refused: vec![],
        }
    }

    #[test]
    fn the_other_kinds_go_on() {
        let bad = KindSpec { input_schema: json!(false), ..spec("bad") };
        let mut said = announce(vec![spec("a"), bad.clone(), spec("b"), spec("a")]);
        said.refused.push(Refusal { kind: "N".repeat(200), reason: "ü".repeat(2000) });
        sift(&mut said, |_| false, &mut Refused::default());
        assert_eq!(said.kinds, [spec("a"), spec("b")]);
        let refused: Vec<_> =
            said.refused.iter().map(|refusal| refusal.kind.chars().take(3).collect::<String>()).collect();
        assert_eq!(refused, ["NNN", "bad", "a"]);
        assert!(said.refused[0].kind.len() < 110 && said.refused[0].reason.len() == REASON_MAX + "…".len());

        let mut known = announce(vec![bad]);
        sift(&mut known, |_| true, &mut Refused::default());
        assert_eq!(known.refused, [], "what was taken once is not looked at again");

        let mut idle = announce(vec![KindSpec { slots: 0, ..spec("a") }, spec("b")]);
        sift(&mut idle, |_| true, &mut Refused::default());
        assert_eq!(idle.kinds, [spec("b")], "slots are looked at each time");
        assert!(idle.refused[0].reason.contains("at least one"), "{:?}", idle.refused);

        let mut many = announce((0..KINDS_MAX + 100).map(|n| spec(&format!("k{n}"))).collect());
        sift(&mut many, |_| false, &mut Refused::default());
        assert_eq!((many.kinds.len(), many.refused.len()), (KINDS_MAX, REFUSALS_MAX));
    }

    #[test]
    fn what_was_refused_is_not_examined_again() {
        let mut refused = Refused::default();
        let long = || Err("ü".repeat(2_000));
        let first = refused.or_examine(&spec("a"), |_| long());
        assert_eq!(first, long());
        let again = refused.or_examine(&spec("a"), |_| unreachable!("it is known"));
        assert!(again.unwrap_err().starts_with("üü"));
        let mended = KindSpec { title: "Mended".into(), ..spec("a") };
        assert_eq!(refused.or_examine(&mended, |_| Ok(())), Ok(()));
        assert_eq!(refused.or_examine(&mended, |_| long()), long(), "what is taken is not remembered here");
        for n in 0..REMEMBERED_MAX * 2 {
            let _ = refused.or_examine(&spec(&format!("k{n}")), |_| long());
        }
        assert!(refused.reasons.len() <= REMEMBERED_MAX);
        assert!(refused.reasons.values().all(|reason| reason.len() == REASON_MAX + "…".len()));
    }
}
