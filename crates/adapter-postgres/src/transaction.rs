//! One unit of work: a transaction under a role, in as few round trips as are safe.

use atelier_domain::actor::Actor;
use atelier_domain::ports::RepoError;
use diesel::QueryResult;
use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::future::{BoxFuture, try_join};

use crate::error::of_statement;

/// Who a transaction acts as. Closed on purpose: the database's role never comes out of a token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role<'a> {
    /// A signed-in person, with exactly the rights that the person's own token gives at Supabase's Data API.
    Person(&'a Actor),
    /// A signed-in person, for what the server alone may write once it has checked it; policies bind it to the
    /// person's rows all the same.
    Writer(&'a Actor),
    /// A worker, which acts for everybody: policies do not bind it.
    Service,
}

impl Role<'_> {
    /// Opens the transaction. Nothing in it was ever written by a person: a role out of three, and a UUID.
    ///
    /// The page cost tells the planner that an index on a disk without heads is cheap; at the default it prefers to
    /// read a whole table once a policy hides from it how few rows match.
    fn preamble(self) -> String {
        let (role, subject) = match self {
            Self::Person(actor) => ("authenticated", Some(actor.user_id())),
            Self::Writer(actor) => ("atelier_writer", Some(actor.user_id())),
            Self::Service => ("service_role", None),
        };
        let claims = match subject {
            Some(id) => format!(r#"{{"sub":"{id}","role":"authenticated"}}"#),
            None => r#"{"role":"service_role"}"#.to_owned(),
        };
        format!(
            "BEGIN; SELECT set_config('role', '{role}', true), set_config('request.jwt.claims', '{claims}', true), \
             set_config('statement_timeout', '15s', true), set_config('lock_timeout', '5s', true), \
             set_config('idle_in_transaction_session_timeout', '30s', true), \
             set_config('random_page_cost', '1.1', true)"
        )
    }
}

/// A connection out of the pool, which goes back there only if it is known to be outside of a transaction.
///
/// A future may be dropped between any two polls: the client goes away, a timeout fires. What is left then is a
/// connection in an open transaction under somebody's role, so it is closed instead of given back.
pub(crate) struct Lease {
    connection: Option<Object<AsyncPgConnection>>,
    clean: bool,
}

impl Lease {
    pub(crate) fn new(connection: Object<AsyncPgConnection>) -> Self {
        Self {
            connection: Some(connection),
            clean: true,
        }
    }

    /// Runs `work` in a transaction under `role`: committed if it succeeds, rolled back if not.
    ///
    /// The opening batch and the first statement of `work` travel together, and `COMMIT` is a round trip of its own:
    /// two for a single statement. The order is safe, as `try_join` polls the batch first and its message is queued at
    /// that poll, whereas a statement is sent when it is prepared, which is never before. Sending `COMMIT` along too
    /// would not be: on a connection that has not prepared the statement yet it would overtake it.
    ///
    /// `work` must hand every error of a statement on: after one, Postgres turns `COMMIT` into a silent rollback.
    pub(crate) async fn transact<T, F>(mut self, role: Role<'_>, work: F) -> Result<T, RepoError>
    where
        F: for<'c> FnOnce(&'c AsyncPgConnection) -> BoxFuture<'c, QueryResult<T>> + Send,
        T: Send,
    {
        let preamble = role.preamble();
        self.clean = false;
        let outcome = {
            let connection = self.connection()?;
            match try_join(batch(connection, &preamble), work(connection)).await {
                Ok(((), value)) => batch(connection, "COMMIT").await.map(|()| value),
                Err(error) => {
                    // A failed rollback leaves the lease unclean, which is all that matters of it.
                    self.clean = batch(connection, "ROLLBACK").await.is_ok();
                    return Err(of_statement(error));
                }
            }
        };
        self.clean = outcome.is_ok();
        outcome.map_err(of_statement)
    }

    fn connection(&self) -> Result<&AsyncPgConnection, RepoError> {
        self.connection
            .as_deref()
            .ok_or_else(|| RepoError::Backend("a lease was used after its end".into()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && !self.clean
        {
            drop(Object::take(connection));
        }
    }
}

async fn batch(mut connection: &AsyncPgConnection, sql: &str) -> QueryResult<()> {
    connection.batch_execute(sql).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use atelier_domain::ids::UserId;
    use uuid::Uuid;

    #[test]
    fn nothing_that_a_person_wrote_is_in_the_preamble() {
        let actor =
            Actor::new(UserId::new(Uuid::max())).with_email("'; reset role; --\0@example.com");

        for role in [Role::Person(&actor), Role::Writer(&actor), Role::Service] {
            let preamble = role.preamble();
            assert!(!preamble.contains("reset role"), "{preamble}");
            assert!(!preamble.contains('\0'));
        }
    }
}
