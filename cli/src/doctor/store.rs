use buzzer_api::config::StoreAddress;
use buzzer_api::store::survey::{Content, Schema, Survey};
use buzzer_api::store::{postgres, sqlite};
use buzzer_shared::time::Clock;

use crate::report::{Finding, Report};

/// Replicas that are further apart than that confuse people who compare their logs.
const CLOCK_MS_MAX: i64 = 1_000;
/// SQLite needs room for its log beside the file.
const FREE_MIN: u64 = 1 << 30;

/// Looks at the store; what is in it, if that can be read.
pub async fn check(address: &StoreAddress, clock: &dyn Clock, report: &mut Report) -> Option<Content> {
    let survey = match address {
        StoreAddress::Sqlite(path) => sqlite::survey(path, clock).map_err(|error| error.to_string()),
        StoreAddress::Postgres(url) => postgres::survey(url, clock).await.map_err(|error| error.to_string()),
    };
    let survey = match survey {
        Ok(survey) => survey,
        Err(reason) => {
            report.add("store", Finding::fail(reason));
            for check in ["schema", "clock", "space"] {
                report.skip(check, "the store cannot be looked at");
            }
            return None;
        }
    };
    report.add("store", Finding::ok(format!("{address}: {}", survey.version)));
    report.add("schema", schema(survey.schema));
    match survey.clock_ahead {
        Some(ahead) => report.add("clock", clocks(ahead)),
        None => report.skip("clock", "SQLite goes by this machine's"),
    }
    match survey.free {
        Some(free) => report.add("space", space(free)),
        None => report.skip("space", "the server's disk is not seen from here"),
    }
    let Survey { content, .. } = survey;
    content
}

fn schema(schema: Schema) -> Finding {
    match schema {
        Schema::Missing => Finding::ok("no tables yet; an API makes them at its first start"),
        Schema::Known(version) => Finding::ok(format!("version {version}, as this build has it")),
        Schema::Older { found, known } => {
            Finding::ok(format!("version {found}; an API of this build brings it to {known}, so make a backup first"))
        }
        Schema::Newer { found, known } => Finding::fail(format!(
            "version {found} was written by a newer Buzzer, this build knows {known}; run that version again"
        )),
    }
}

fn clocks(ahead: i64) -> Finding {
    let (size, side) = (ahead.unsigned_abs(), if ahead < 0 { "behind" } else { "ahead of" });
    if ahead.abs() <= CLOCK_MS_MAX {
        Finding::ok(format!("the database's is {size} ms {side} this machine's"))
    } else {
        Finding::warn(format!(
            "the database's is {size} ms {side} this machine's; let both machines take their time from one server (NTP)"
        ))
    }
}

fn space(free: u64) -> Finding {
    let mib = free >> 20;
    if free >= FREE_MIN {
        Finding::ok(format!("{mib} MiB left on the disk of the file"))
    } else {
        Finding::warn(format!("{mib} MiB left on the disk of the file; make room, or shorten BUZZER_KEEP"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    #[test]
    fn a_newer_schema_fails_and_an_older_one_does_not() {
        assert_eq!(schema(Schema::Newer { found: 9, known: 2 }).verdict, Verdict::Fail);
        for schema in [schema(Schema::Missing), schema(Schema::Older { found: 1, known: 2 }), schema(Schema::Known(2))]
        {
            assert_eq!(schema.verdict, Verdict::Ok);
        }
    }

    #[test]
    fn clocks_may_differ_by_a_second_either_way() {
        for (ahead, verdict) in [
            (0, Verdict::Ok),
            (1_000, Verdict::Ok),
            (-1_000, Verdict::Ok),
            (1_001, Verdict::Warn),
            (-1_001, Verdict::Warn),
        ] {
            assert_eq!(clocks(ahead).verdict, verdict, "{ahead}");
        }
        assert!(clocks(-2_000).text.contains("2000 ms behind"));
    }

    #[test]
    fn little_space_is_a_warning() {
        assert_eq!(space(FREE_MIN).verdict, Verdict::Ok);
        assert_eq!(
            space(FREE_MIN - 1),
            Finding::warn("1023 MiB left on the disk of the file; make room, or shorten BUZZER_KEEP")
        );
    }
}
