//! People, and the tokens that they sign in with.

use std::time::{Duration, SystemTime};

use atelier_domain::ids::UserId;
use atelier_identity::{AccessToken, sign_access_token};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The secret that all servers under test share with their tokens.
pub const JWT_SECRET: &str = "the-jwt-secret-of-the-integration-tests";

const HOUR: Duration = Duration::from_hours(1);

/// Somebody with a token.
#[derive(Clone, Debug)]
pub struct Person {
    /// Whose rows are this person's.
    pub id: Uuid,
    /// A token that is good for an hour.
    pub token: String,
}

impl Person {
    /// Somebody whom no test has met.
    #[expect(
        clippy::disallowed_methods,
        reason = "tests share databases: ids must differ"
    )]
    pub fn new() -> Self {
        let id = Uuid::new_v4();
        Self {
            id,
            token: token(JWT_SECRET, id, now(), HOUR),
        }
    }

    /// A token of this person's that somebody else signed.
    pub fn forged_token(&self) -> String {
        let secret = "a-secret-that-is-not-the-server's";
        token(secret, self.id, now(), HOUR)
    }

    /// A token of this person's that nobody signed (`alg: none`).
    pub fn unsigned_token(&self) -> String {
        let claims = self
            .token
            .split('.')
            .nth(1)
            .expect("a token has three parts");
        // {"alg":"none","typ":"JWT"}
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.")
    }

    /// A token of this person's that ran out a day ago.
    pub fn expired_token(&self) -> String {
        let day = chrono::TimeDelta::days(1) + chrono::TimeDelta::hours(1);
        token(JWT_SECRET, self.id, now() - day, HOUR)
    }
}

impl Default for Person {
    fn default() -> Self {
        Self::new()
    }
}

fn token(secret: &str, id: Uuid, issued_at: DateTime<Utc>, valid_for: Duration) -> String {
    let token = AccessToken {
        user_id: UserId::new(id),
        email: None,
        issuer: None,
        issued_at,
        valid_for,
    };
    sign_access_token(secret, token).expect("HS256 signs anything")
}

fn now() -> DateTime<Utc> {
    DateTime::from(SystemTime::now())
}
