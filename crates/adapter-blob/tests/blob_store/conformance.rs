//! The suite that every implementation of the port passes.

use std::sync::Arc;

use atelier_testkit::conformance::blob_store::Harness;

use crate::support;

/// One S3 server for each case: cases run side by side, and each has enough
/// to do with its own.
fn tested(harness: support::Harness) -> Harness {
    Harness {
        blobs: Arc::new(harness.blobs.clone()),
        signs_urls: harness.double.is_some(),
        keep_alive: Arc::new(harness),
    }
}

mod memory {
    use super::{support, tested};

    atelier_testkit::blob_store_conformance!(std::future::ready(tested(support::memory())));
}

mod folder {
    use super::{support, tested};

    atelier_testkit::blob_store_conformance!(std::future::ready(tested(support::folder())));
}

mod s3 {
    use super::{support, tested};

    atelier_testkit::blob_store_conformance!(std::future::ready(tested(support::s3())));
}
