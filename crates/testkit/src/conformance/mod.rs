//! What every implementation of a port must do, as cases that run against it.
//!
//! Each module has a `Harness`, one `pub async fn` a case, named after the
//! behaviour, and a macro that stamps each case as a test of its own:
//!
//! ```
//! use std::sync::Arc;
//! use atelier_testkit::InMemoryBlobs;
//! use atelier_testkit::conformance::blob_store::Harness;
//!
//! async fn harness() -> Harness {
//!     Harness {
//!         blobs: Arc::new(InMemoryBlobs::new()),
//!         signs_urls: false,
//!         keep_alive: Arc::new(()),
//!     }
//! }
//!
//! atelier_testkit::blob_store_conformance!(harness());
//! # fn main() {}
//! ```
//!
//! The expression is evaluated once a test, in a module below the one that
//! holds the macro, and gives a future of a fresh harness. The tests run at
//! the same time: cases make tenants and ids of their own, so harnesses may
//! share a store, except where a `Harness` says that it must be alone.
//!
//! Everything panics, as tests do, at the first thing that is not right.

pub mod account_links;
pub mod api_tokens;
pub mod audit_trail;
pub mod blob_store;
pub mod external_identities;
pub mod input_repo;
pub mod lora_copies;
pub mod lora_folder;
pub mod lora_repo;
pub mod lora_transfers;
pub mod lora_uploads;
pub mod run_previews;
pub mod run_queue;
pub mod run_repo;
pub mod run_signals;
pub mod usage_repo;
pub mod workflow_repo;

use std::any::Any;
use std::sync::Arc;

use atelier_domain::ids::{LoraId, UserId};
use atelier_domain::page::{Page, PageLimit, PageRequest};
use futures_util::future::BoxFuture;

/// What must live as long as a harness: a temporary folder, a database.
/// `Arc::new(())` for nothing.
pub type KeepAlive = Arc<dyn Any + Send + Sync>;

/// Makes the answers to a person's idempotent requests older than they are
/// kept.
pub type AgeAnswers = Arc<dyn Fn(UserId) -> BoxFuture<'static, ()> + Send + Sync>;

/// Makes a reservation look as if nothing had been heard of its bytes for too
/// long, past the ports.
pub type AbandonReservation = Arc<dyn Fn(LoraId) -> BoxFuture<'static, ()> + Send + Sync>;

/// Stamps each case as a test.
#[doc(hidden)]
#[macro_export]
macro_rules! __cases {
    ($suite:ident in $module:ident, $harness:expr; $($case:ident,)*) => {
        mod $module {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let harness = $harness.await;
                    $crate::conformance::$suite::$case(&harness).await;
                }
            )*
        }
    };
}

macro_rules! opaque_debug {
    ($type:ty) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("Harness")
            }
        }
    };
}
use opaque_debug;

/// Page sizes that meet every edge of a list of some ten rows.
const LIMITS: [u16; 5] = [1, 2, 3, 7, 200];

fn page(limit: u16) -> PageRequest {
    PageRequest {
        limit: PageLimit::new(limit).expect("the cases use limits that exist"),
        after: None,
    }
}

/// Reads a list to its end, page by page.
async fn all_pages<T>(limit: u16, mut fetch: impl AsyncFnMut(PageRequest) -> Page<T>) -> Vec<T> {
    let mut request = page(limit);
    let mut items = Vec::new();
    loop {
        let page = fetch(request).await;
        assert!(
            page.items.len() <= usize::from(limit),
            "{} items on a page of {limit}",
            page.items.len()
        );
        items.extend(page.items);
        assert!(items.len() < 10_000, "the pages never end");
        request.after = page.next;
        if request.after.is_none() {
            return items;
        }
    }
}
