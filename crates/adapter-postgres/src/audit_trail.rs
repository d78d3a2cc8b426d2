//! The trail of what matters to security.

use async_trait::async_trait;
use atelier_domain::ids::UserId;
use atelier_domain::ports::{AuditEvent, AuditTrail, RepoError};
use diesel::sql_types::{Json, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt;
use serde_json::{Map, Value, json};

use crate::json_text::JsonText;
use crate::run_rows::storable;
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// Implements [`AuditTrail`].
#[derive(Clone, Debug)]
pub struct PgAuditTrail {
    store: PgStore,
}

const RECORD: &str = "\
    insert into public.comfyui_audit_events (user_id, action, target, details) values ($1, $2, $3, $4)";

/// Characters that the table has room for.
const LONGEST_TARGET: usize = 1_000;
/// Bytes that the table has room for.
const LONGEST_DETAILS: usize = 16_384;

impl PgAuditTrail {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }
}

/// What comes of a request may have any length, and an event must not be lost to it.
fn target(text: &str) -> String {
    storable(text).chars().take(LONGEST_TARGET).collect()
}

fn details(details: Map<String, Value>) -> JsonText {
    let text = JsonText::of(&Value::Object(details));
    if text.0.len() <= LONGEST_DETAILS {
        text
    } else {
        JsonText::of(&json!({"left_out_bytes": text.0.len()}))
    }
}

#[async_trait]
impl AuditTrail for PgAuditTrail {
    async fn record(&self, event: AuditEvent) -> Result<(), RepoError> {
        let statement = Statement::new(RECORD)
            .bind::<Nullable<SqlUuid>, _>(event.user_id.map(UserId::as_uuid))
            .bind::<Text, _>(event.action)
            .bind::<Nullable<Text>, _>(event.target.as_deref().map(target))
            .bind::<Json, _>(details(event.details));
        self.store
            .transact(Role::Service, |mut connection| {
                async move { statement.execute(&mut connection).await }.boxed()
            })
            .await?;
        Ok(())
    }
}
