use async_trait::async_trait;
use atelier_domain::ports::{AuditEvent, AuditTrail, RepoError};

use super::FakeStore;

/// The audit trail of a [`FakeStore`]. It holds what is recorded through the
/// port; what a real database writes down by itself is not in it.
#[derive(Clone, Debug)]
pub struct FakeAuditTrail(pub(super) FakeStore);

#[async_trait]
impl AuditTrail for FakeAuditTrail {
    async fn record(&self, event: AuditEvent) -> Result<(), RepoError> {
        self.0.open()?.audit_events.push(event);
        Ok(())
    }
}
