//! One unit of work: a transaction under a role, in as few round trips as are safe.

use atelier_domain::actor::Actor;
use atelier_domain::ports::RepoError;
use deadpool::managed::Object;
use diesel::QueryResult;
use diesel::sql_types::Text;
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use futures_util::future::{BoxFuture, join3, try_join};
use tokio::task::unconstrained;

use crate::error::of_statement;
use crate::pool::{Connection, Connections};
use crate::statement::Statement;

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
    fn name(self) -> &'static str {
        match self {
            Self::Person(_) => "authenticated",
            Self::Writer(_) => "atelier_writer",
            Self::Service => "service_role",
        }
    }

    /// What `auth.uid()` reads. Nothing in it was ever written by a person: a UUID at the most.
    fn claims(self) -> String {
        match self {
            Self::Person(actor) | Self::Writer(actor) => {
                let id = actor.user_id();
                format!(r#"{{"sub":"{id}","role":"authenticated"}}"#)
            }
            Self::Service => r#"{"role":"service_role"}"#.to_owned(),
        }
    }
}

/// Gives the transaction that it runs in a role and claims. Every connection has it prepared from its beginning.
pub(crate) fn act_as(role: &'static str, claims: impl Into<String>) -> Statement {
    Statement::new(
        "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)",
    )
    .bind::<Text, _>(role)
    .bind::<Text, _>(claims.into())
}

/// A connection out of the pool, which goes back there only if it is known to be outside of a transaction.
///
/// A future may be dropped between any two polls: the client goes away, a timeout fires. What is left then is a
/// connection in an open transaction under somebody's role, so it is closed instead of given back.
///
/// What is sent together is polled in its order and `unconstrained`, as the order of the first polls is that of the
/// messages: without that, tokio may make a task that did much give way at any of diesel's locks, free as they are.
pub(crate) struct Lease {
    connection: Option<Object<Connections>>,
    clean: bool,
}

impl Lease {
    pub(crate) fn new(connection: Object<Connections>) -> Self {
        Self {
            connection: Some(connection),
            clean: true,
        }
    }

    /// Runs `work` in a transaction under `role`: committed if it succeeds, rolled back if not.
    ///
    /// The opening and the first statement of `work` travel together, and `COMMIT` is a round trip of its own: two for a
    /// single statement. The order is safe: all of the opening is sent at the first poll, as it is prepared, whereas a
    /// statement of `work` is sent when it is, which is never before.
    ///
    /// `work` must hand every error of a statement on: after one, Postgres turns `COMMIT` into a silent rollback.
    pub(crate) async fn transact<T, F>(mut self, role: Role<'_>, work: F) -> Result<T, RepoError>
    where
        F: for<'c> FnOnce(&'c AsyncPgConnection) -> BoxFuture<'c, QueryResult<T>> + Send,
        T: Send,
    {
        self.in_two_trips(role, work).await
    }

    /// Runs one statement in a transaction under `role`; `run` sends that and nothing else.
    ///
    /// On a connection that has prepared the statement already, all travels together, `COMMIT` included: one round trip.
    /// On another one `COMMIT` would overtake the statement while that is being prepared, so it waits there. Were it ever
    /// to overtake, the statement would run as the login role, which may do nothing.
    pub(crate) async fn transact_one<T, F>(
        mut self,
        role: Role<'_>,
        statement: Statement,
        run: F,
    ) -> Result<T, RepoError>
    where
        F: for<'c> FnOnce(&'c AsyncPgConnection, Statement) -> BoxFuture<'c, QueryResult<T>> + Send,
        T: Send,
    {
        let sql = statement.sql();
        if !self.connection()?.has_prepared(sql) {
            let value = self
                .in_two_trips(role, |connection| run(connection, statement))
                .await?;
            self.connection()?.keep_prepared(sql);
            return Ok(value);
        }
        self.clean = false;
        let (opened, outcome, committed) = {
            let connection = self.connection()?;
            unconstrained(join3(
                open(connection, role),
                run(connection, statement),
                batch(connection, "COMMIT"),
            ))
            .await
        };
        // After an error it was a rollback, which ends the transaction just as well.
        self.clean = committed.is_ok();
        opened
            .and(outcome)
            .and_then(|value| committed.map(|()| value))
            .map_err(of_statement)
    }

    async fn in_two_trips<T, F>(&mut self, role: Role<'_>, work: F) -> Result<T, RepoError>
    where
        F: for<'c> FnOnce(&'c AsyncPgConnection) -> BoxFuture<'c, QueryResult<T>> + Send,
        T: Send,
    {
        self.clean = false;
        let outcome = {
            let connection = self.connection()?;
            let together = try_join(open(connection, role), work(connection));
            match unconstrained(together).await {
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

    fn connection(&self) -> Result<&Connection, RepoError> {
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

/// Opens a transaction under a role; both messages are sent at the first poll.
async fn open(mut connection: &AsyncPgConnection, role: Role<'_>) -> QueryResult<()> {
    let act = act_as(role.name(), role.claims()).execute(&mut connection);
    try_join(batch(connection, "BEGIN"), act).await.map(drop)
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
    fn nothing_that_a_person_wrote_is_in_the_claims() {
        let actor =
            Actor::new(UserId::new(Uuid::max())).with_email("'; reset role; --\0@example.com");

        for role in [Role::Person(&actor), Role::Writer(&actor), Role::Service] {
            let claims = role.claims();
            assert!(!claims.contains("reset role"), "{claims}");
            assert!(!claims.contains('\0'));
        }
    }
}
