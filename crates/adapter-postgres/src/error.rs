//! What a failure of the database means to the ports.

use std::fmt;

use atelier_domain::ports::{Conflict, RepoError};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::deadpool::PoolError;

/// A failure of the database for the log: Postgres' message, without the values that it concerns.
///
/// Details such as `Key (user_id, filename)=(...) already exists` hold what people wrote, so they are left out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseFailure {
    /// The server answered with an error.
    #[error("{message}{}", InTable(table.as_deref(), constraint.as_deref()))]
    Refused {
        message: String,
        table: Option<String>,
        constraint: Option<String>,
    },
    /// Row-level security or a missing grant stopped a write that the code should not have tried.
    #[error("the policies of the database refused the statement: {message}")]
    Policy { message: String },
    /// No connection could be had.
    #[error("no connection to the database: {0}")]
    Connection(String),
    /// The pool is empty and stayed empty.
    #[error("every one of the {0} database connections stayed busy")]
    PoolExhausted(usize),
    /// Anything else of diesel's.
    #[error("{0}")]
    Other(String),
}

struct InTable<'a>(Option<&'a str>, Option<&'a str>);

impl fmt::Display for InTable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(table) = self.0 {
            write!(formatter, " (table {table})")?;
        }
        if let Some(constraint) = self.1 {
            write!(formatter, " (constraint {constraint})")?;
        }
        Ok(())
    }
}

/// Constraints that a caller can run into, and what they mean.
const CONFLICTS: [(&str, Conflict); 6] = [
    ("comfyui_api_tokens_pkey", Conflict::Id),
    ("comfyui_inputs_pkey", Conflict::Id),
    ("comfyui_workflows_pkey", Conflict::Id),
    ("comfyui_workflow_runs_pkey", Conflict::Id),
    ("comfyui_lora_models_pkey", Conflict::Id),
    ("comfyui_lora_models_filename_key", Conflict::LoraFilename),
];

/// Where rows point at their owner, and owners at their account.
fn is_owner_missing(constraint: Option<&str>) -> bool {
    constraint.is_some_and(|constraint| {
        constraint == "comfyui_users_account_fkey" || constraint.ends_with("_user_id_fkey")
    })
}

/// How Postgres begins the messages of refusals by policy or grant (SQLSTATE 42501). Diesel does not hand out the code,
/// so the message must do; it is English unless the server's `lc_messages` says otherwise, and then the failure is
/// still an error, only with a less helpful text.
const POLICY_MESSAGES: [&str; 3] = [
    "new row violates row-level security policy",
    "permission denied",
    "query would be affected by row-level security policy",
];

/// How Postgres begins the messages of failures that pass: shutdown and start-up (57P01 to 57P03), too many connections
/// (53300), cancelled by a timeout (57014, 55P03, 25P03), deadlock (40P01), read-only while failing over (25006).
const PASSING_MESSAGES: [&str; 11] = [
    "terminating connection",
    "the database system is",
    "cannot connect now",
    "sorry, too many clients already",
    "remaining connection slots are reserved",
    "too many connections",
    "canceling statement due to",
    "deadlock detected",
    "could not serialize access",
    "connection to the server was closed",
    "idle-in-transaction timeout",
];

/// Says what a failed statement means.
pub(crate) fn of_statement(error: DieselError) -> RepoError {
    let (kind, information) = match error {
        DieselError::DatabaseError(kind, information) => (kind, information),
        other => return RepoError::Backend(Box::new(DatabaseFailure::Other(other.to_string()))),
    };
    let message = information.message();
    let begins_with = |beginnings: &[&str]| {
        beginnings
            .iter()
            .any(|beginning| message.starts_with(beginning))
    };
    match kind {
        DatabaseErrorKind::UniqueViolation => {
            let conflict = CONFLICTS
                .iter()
                .find(|(constraint, _)| information.constraint_name() == Some(constraint));
            if let Some((_, conflict)) = conflict {
                return RepoError::Conflict(*conflict);
            }
        }
        DatabaseErrorKind::ForeignKeyViolation
            if is_owner_missing(information.constraint_name()) =>
        {
            return RepoError::AccountGone;
        }
        // diesel-async reports a lost connection as this one, never as closed.
        DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection => {
            return RepoError::Unavailable(Box::new(DatabaseFailure::Connection(
                message.to_owned(),
            )));
        }
        _ if begins_with(&POLICY_MESSAGES) => {
            return RepoError::Backend(Box::new(DatabaseFailure::Policy {
                message: message.to_owned(),
            }));
        }
        _ => {}
    }
    let passes = matches!(
        kind,
        DatabaseErrorKind::SerializationFailure | DatabaseErrorKind::ReadOnlyTransaction
    ) || begins_with(&PASSING_MESSAGES);
    let failure = Box::new(DatabaseFailure::Refused {
        message: message.to_owned(),
        table: information.table_name().map(str::to_owned),
        constraint: information.constraint_name().map(str::to_owned),
    });
    if passes {
        RepoError::Unavailable(failure)
    } else {
        RepoError::Backend(failure)
    }
}

/// Says why the pool gave no connection. All of it may pass: even a wrong password is mended without restarting us.
pub(crate) fn of_pool(error: PoolError, size: usize) -> RepoError {
    RepoError::Unavailable(Box::new(match error {
        PoolError::Timeout(_) => DatabaseFailure::PoolExhausted(size),
        other => DatabaseFailure::Connection(other.to_string()),
    }))
}

/// A failure of a stored row to be what the domain calls one.
pub(crate) fn inconsistent(
    table: &'static str,
    column: &'static str,
    row: impl fmt::Display,
) -> RepoError {
    RepoError::Inconsistent {
        table,
        column,
        row: row.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Information {
        message: &'static str,
        constraint: Option<&'static str>,
    }

    impl diesel::result::DatabaseErrorInformation for Information {
        fn message(&self) -> &str {
            self.message
        }
        fn details(&self) -> Option<&str> {
            Some("Key (filename)=(secret) already exists.")
        }
        fn hint(&self) -> Option<&str> {
            None
        }
        fn table_name(&self) -> Option<&str> {
            Some("comfyui_lora_models")
        }
        fn column_name(&self) -> Option<&str> {
            None
        }
        fn constraint_name(&self) -> Option<&str> {
            self.constraint
        }
        fn statement_position(&self) -> Option<i32> {
            None
        }
    }

    fn mapped(
        kind: DatabaseErrorKind,
        message: &'static str,
        constraint: Option<&'static str>,
    ) -> RepoError {
        of_statement(DieselError::DatabaseError(
            kind,
            Box::new(Information {
                message,
                constraint,
            }),
        ))
    }

    #[test]
    fn known_constraints_are_conflicts_and_others_are_defects() {
        let duplicate = "duplicate key value violates unique constraint";
        let unique = DatabaseErrorKind::UniqueViolation;

        assert!(matches!(
            mapped(unique, duplicate, Some("comfyui_lora_models_filename_key")),
            RepoError::Conflict(Conflict::LoraFilename)
        ));
        let unique = DatabaseErrorKind::UniqueViolation;
        assert!(matches!(
            mapped(unique, duplicate, Some("comfyui_run_outputs_pkey")),
            RepoError::Backend(_)
        ));
    }

    #[test]
    fn a_row_without_its_owner_means_that_the_account_is_gone() {
        for constraint in [
            "comfyui_users_account_fkey",
            "comfyui_workflows_user_id_fkey",
        ] {
            let kind = DatabaseErrorKind::ForeignKeyViolation;
            assert!(matches!(
                mapped(kind, "the account is gone", Some(constraint)),
                RepoError::AccountGone
            ));
        }
        let kind = DatabaseErrorKind::ForeignKeyViolation;
        assert!(matches!(
            mapped(kind, "violates", Some("comfyui_run_outputs_run_id_fkey")),
            RepoError::Backend(_)
        ));
    }

    #[test]
    fn what_passes_is_unavailable() {
        for (kind, message) in [
            (DatabaseErrorKind::UnableToSendCommand, "connection closed"),
            (
                DatabaseErrorKind::Unknown,
                "terminating connection due to administrator command",
            ),
            (
                DatabaseErrorKind::Unknown,
                "the database system is starting up",
            ),
            (
                DatabaseErrorKind::Unknown,
                "canceling statement due to statement timeout",
            ),
        ] {
            assert!(
                matches!(mapped(kind, message, None), RepoError::Unavailable(_)),
                "{message}"
            );
        }
    }

    #[test]
    fn no_value_of_a_row_reaches_the_message() {
        let RepoError::Backend(source) = mapped(
            DatabaseErrorKind::UniqueViolation,
            "duplicate key value violates unique constraint \"x\"",
            Some("x"),
        ) else {
            panic!("a defect");
        };

        let shown = format!("{source} {source:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
