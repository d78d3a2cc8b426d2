use std::time::Duration;

use atelier_domain::ports::Clock;
use tokio::runtime::Handle;

use super::report::Finding;
use crate::wiring::{PgDiagnosis, PgOptions, diagnose};

/// The oldest version that is tried.
const OLDEST: i32 = 150_000;

/// How far the database's clock may be from ours: leases are counted in seconds.
const SKEW: Duration = Duration::from_secs(2);

const MIGRATE: &str = "run `atelier migrate` with the owner's address (ATELIER_MIGRATE_URL)";

pub(super) async fn examine(options: &PgOptions, clock: &dyn Clock) -> Vec<Finding> {
    match diagnose(options, &Handle::current()).await {
        Ok(found) => {
            let now = clock.now();
            let (told, took) = found.time;
            // Asked half-way there and back, and a little before now.
            let skew = (now - told).abs().to_std().unwrap_or(Duration::MAX);
            findings(&found, skew.saturating_sub(took))
        }
        Err(error) => vec![Finding::broken(
            "database",
            error.to_string(),
            "check DATABASE_URL: host, port, database, the role atelier_app and its password; and whether the \
             server lets this machine in",
        )],
    }
}

fn findings(found: &PgDiagnosis, skew: Duration) -> Vec<Finding> {
    let mut all = vec![
        version(found),
        encryption(found),
        login(found),
        Finding::none_of(
            "database roles",
            &found.cannot_become,
            "the login may become every role that it needs",
            "the login cannot become",
            MIGRATE,
        ),
        session(found),
        clocks(skew),
        Finding::none_of(
            "migrations",
            &found.missing_tables,
            "every table of this version is there",
            "tables of this version are missing",
            MIGRATE,
        ),
    ];
    all.extend(isolation(found));
    all
}

fn version(found: &PgDiagnosis) -> Finding {
    let told = format!("PostgreSQL {} answers", found.version);
    if found.version_number < OLDEST {
        return Finding::broken(
            "database",
            format!("{told}; it is older than 15"),
            "use PostgreSQL 15 or newer",
        );
    }
    Finding::fine("database", told)
}

fn encryption(found: &PgDiagnosis) -> Finding {
    const CHECK: &str = "database TLS";
    if found.encrypted {
        Finding::fine(CHECK, "the connection is encrypted")
    } else {
        Finding::doubtful(
            CHECK,
            "the connection is not encrypted",
            "put sslmode=verify-full into DATABASE_URL, unless the database is on this machine or in a network of \
             its own",
        )
    }
}

fn login(found: &PgDiagnosis) -> Finding {
    const CHECK: &str = "database login";
    let faults: Vec<&str> = [
        (found.is_superuser, "is a superuser, whom no policy binds"),
        (
            found.bypasses_policies,
            "has BYPASSRLS, so that no policy binds it",
        ),
        (
            found.inherits,
            "has the rights of its roles without becoming them (INHERIT)",
        ),
    ]
    .into_iter()
    .filter_map(|(is_so, fault)| is_so.then_some(fault))
    .collect();
    if faults.is_empty() {
        return Finding::fine(CHECK, format!("{} may do nothing by itself", found.login));
    }
    Finding::broken(
        CHECK,
        format!("{} {}", found.login, faults.join("; and it ")),
        "log in as atelier_app, which `atelier migrate` makes",
    )
}

fn session(found: &PgDiagnosis) -> Finding {
    const CHECK: &str = "database session";
    if found.keeps_session {
        return Finding::fine(CHECK, "it stays the same from transaction to transaction");
    }
    Finding::broken(
        CHECK,
        "it changes between transactions: a pooler in transaction mode is in between, which has no notifications",
        "use the direct connection or the pooler's session mode (Supabase: port 5432, not 6543)",
    )
}

fn clocks(skew: Duration) -> Finding {
    let told = format!(
        "the database's clock and this one differ by {} ms",
        skew.as_millis()
    );
    if skew > SKEW {
        return Finding::doubtful(
            "clocks",
            told,
            "let both machines set their clocks by NTP: tokens expire and leases end by them",
        );
    }
    Finding::fine("clocks", told)
}

fn isolation(found: &PgDiagnosis) -> Vec<Finding> {
    const CHECK: &str = "row-level security";
    let mut all = vec![
        Finding::none_of(
            CHECK,
            &found.open_tables,
            "on, and forced on owners too",
            "off, or not forced on owners, for",
            "someone changed these tables: `alter table ... enable row level security` and `... force row level \
             security`",
        ),
        Finding::none_of(
            "policies",
            &found.missing_policies,
            "every policy of this version is there",
            "missing",
            "someone dropped them: make them anew, as the folder migrations/ has them",
        ),
        Finding::none_of(
            "isolation",
            &found.leaking_tables,
            "somebody unknown sees nothing of anybody's",
            "somebody unknown sees other people's rows in",
            "find the policy that lets them: `select * from pg_policies where tablename like 'comfyui%'`",
        ),
    ];
    if !found.unknown_policies.is_empty() {
        all.push(Finding::doubtful(
            "policies",
            format!(
                "there are some that Atelier did not make: {}",
                found.unknown_policies.join(", ")
            ),
            "drop them unless you made them on purpose: policies add up, and each may show more",
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::super::report::Verdict;
    use super::*;

    fn healthy() -> PgDiagnosis {
        PgDiagnosis {
            version: "15.8".to_owned(),
            version_number: 150_008,
            encrypted: true,
            login: "atelier_app".to_owned(),
            is_superuser: false,
            bypasses_policies: false,
            inherits: false,
            cannot_become: Vec::new(),
            time: (DateTime::UNIX_EPOCH, Duration::ZERO),
            missing_tables: Vec::new(),
            open_tables: Vec::new(),
            missing_policies: Vec::new(),
            unknown_policies: Vec::new(),
            leaking_tables: Vec::new(),
            keeps_session: true,
        }
    }

    /// The checks that do not go well, with how they go.
    fn faults(found: &PgDiagnosis, skew: Duration) -> Vec<(String, Verdict)> {
        let all = findings(found, skew).into_iter();
        let faults = all.filter(|finding| finding.verdict != Verdict::Ok);
        faults
            .map(|finding| {
                assert!(finding.remedy.is_some(), "{finding:?}");
                (finding.check, finding.verdict)
            })
            .collect()
    }

    #[test]
    fn a_healthy_database_is_fine() {
        assert_eq!(faults(&healthy(), Duration::from_millis(3)), []);
    }

    /// Breaks one thing.
    type Spoil = fn(&mut PgDiagnosis);

    #[test]
    fn every_fault_is_a_finding_of_its_own() {
        let names = || vec!["comfyui_workflows".to_owned()];
        let broken = Verdict::Failed;
        let spoil: [(Spoil, &str, Verdict); 11] = [
            (|found| found.version_number = 140_011, "database", broken),
            (
                |found| found.encrypted = false,
                "database TLS",
                Verdict::Warning,
            ),
            (|found| found.is_superuser = true, "database login", broken),
            (
                |found| found.bypasses_policies = true,
                "database login",
                broken,
            ),
            (|found| found.inherits = true, "database login", broken),
            (
                |found| found.keeps_session = false,
                "database session",
                broken,
            ),
            (
                |found| found.cannot_become = vec!["x".to_owned()],
                "database roles",
                broken,
            ),
            (
                |found| found.missing_tables = vec!["x".to_owned()],
                "migrations",
                broken,
            ),
            (
                |found| found.open_tables = vec!["x".to_owned()],
                "row-level security",
                broken,
            ),
            (
                |found| found.leaking_tables = vec!["x".to_owned()],
                "isolation",
                broken,
            ),
            (
                |found| found.unknown_policies = vec!["x".to_owned()],
                "policies",
                Verdict::Warning,
            ),
        ];
        for (spoil, check, verdict) in spoil {
            let mut found = healthy();
            spoil(&mut found);

            assert_eq!(
                faults(&found, Duration::ZERO),
                [(check.to_owned(), verdict)]
            );
        }
        let missing = PgDiagnosis {
            missing_policies: names(),
            ..healthy()
        };
        assert_eq!(
            faults(&missing, Duration::from_secs(3)),
            [
                ("clocks".to_owned(), Verdict::Warning),
                ("policies".to_owned(), broken)
            ]
        );
    }
}
