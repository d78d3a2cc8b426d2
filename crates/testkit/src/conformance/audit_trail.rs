//! What every [`AuditTrail`] must do.

use std::sync::Arc;

use atelier_domain::ids::UserId;
use atelier_domain::ports::{AuditEvent, AuditTrail};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::KeepAlive;
use crate::random_id;

/// An event as it was written down.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenEvent {
    /// What was done or refused.
    pub action: String,
    /// What it was done to.
    pub target: Option<String>,
    /// More of it.
    pub details: Value,
}

/// What is written down of a person, in order, past the ports.
pub type ReadTrail = Arc<dyn Fn(UserId) -> BoxFuture<'static, Vec<WrittenEvent>> + Send + Sync>;

/// A trail under test.
pub struct Harness {
    /// The trail.
    pub trail: Arc<dyn AuditTrail>,
    /// Reads it.
    pub written: ReadTrail,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

fn an_event(user_id: UserId) -> AuditEvent {
    AuditEvent {
        user_id: Some(user_id),
        action: "sign_in.refused",
        target: Some("203.0.113.7".to_owned()),
        details: Map::from_iter([("reason".to_owned(), json!("expired"))]),
    }
}

/// Of somebody, of nobody, and of nothing in particular; in order.
pub async fn recorded_events_are_written_down(h: &Harness) {
    let person = UserId::new(random_id());
    let bare = AuditEvent {
        action: "limit.reached",
        target: None,
        details: Map::new(),
        ..an_event(person)
    };
    let nobodys = AuditEvent {
        user_id: None,
        ..an_event(person)
    };
    for event in [an_event(person), bare, nobodys] {
        h.trail.record(event).await.unwrap();
    }

    let written = (h.written)(person).await;

    let expected = [
        WrittenEvent {
            action: "sign_in.refused".to_owned(),
            target: Some("203.0.113.7".to_owned()),
            details: json!({"reason": "expired"}),
        },
        WrittenEvent {
            action: "limit.reached".to_owned(),
            target: None,
            details: json!({}),
        },
    ];
    assert_eq!(written, expected);
}

/// Whoever makes a request long or strange does not stay out of the trail.
pub async fn no_event_is_lost_to_what_it_tells_of(h: &Harness) {
    let person = UserId::new(random_id());
    let long = AuditEvent {
        target: Some("ä".repeat(100_000)),
        details: Map::from_iter([("agent".to_owned(), json!("x".repeat(100_000)))]),
        ..an_event(person)
    };
    let strange = AuditEvent {
        target: Some("a\0b".to_owned()),
        details: Map::from_iter([("\0".to_owned(), json!("\0"))]),
        ..an_event(person)
    };
    for event in [long, strange] {
        h.trail.record(event).await.unwrap();
    }

    let written = (h.written)(person).await;

    assert_eq!(written.len(), 2);
    for (event, beginning) in written.iter().zip(["ää", "a"]) {
        let target = event.target.as_deref().unwrap();
        assert!(target.starts_with(beginning), "{target}");
        assert_eq!(event.action, "sign_in.refused");
    }
}

/// Tests an `AuditTrail`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! audit_trail_conformance {
    ($harness:expr) => {
        $crate::__cases! { audit_trail in audit_trail_conformance, $harness;
            recorded_events_are_written_down,
            no_event_is_lost_to_what_it_tells_of,
        }
    };
}
