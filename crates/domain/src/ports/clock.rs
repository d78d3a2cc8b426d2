use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Tells the time, so that tests can set it.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Clock: Send + Sync {
    /// The time now, in whole microseconds: what the database keeps.
    fn now(&self) -> DateTime<Utc>;
}

/// Makes ids, so that tests know them beforehand.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait IdGen: Send + Sync {
    /// A new UUID, never given before. Version 7 (RFC 9562 section 5.7) keeps
    /// indexes compact; nothing may rely on its order.
    fn new_id(&self) -> Uuid;
}
