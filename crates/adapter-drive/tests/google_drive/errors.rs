//! Every row of `reference/platform/PROTOCOLS.md` section 4.5, for metadata and
//! for bytes.

use std::time::Duration;

use atelier_domain::ports::{RemoteError, RemoteFile, RemoteSource as _};
use atelier_drive::{DriveOptions, GoogleDrive};
use atelier_testkit::drive_double::{Endpoint, Fault};
use serde_json::{Value, json};

use crate::site::{ID, Site, chain, lent};

const SAMPLES: &str = include_str!("../samples/drive_errors.json");

/// What an error is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Tried again, three times in all.
    Again,
    /// The token is renewed, then it is over.
    Unauthorized,
    /// The credential does not reach so far.
    Scope,
    Refused,
    Missing,
    Nonsense,
}

/// Each sample, what becomes of it, and a word that the person reads.
const ROWS: &[(&str, Class, &str)] = &[
    ("400_badRequest", Class::Nonsense, ""),
    ("400_invalidParameter_fields", Class::Nonsense, ""),
    ("401_authError", Class::Unauthorized, "GDOC_TOKEN"),
    ("401_authError_modern", Class::Unauthorized, "GDOC_TOKEN"),
    ("403_accessNotConfigured", Class::Refused, "not enabled"),
    (
        "403_insufficientPermissions_scope",
        Class::Scope,
        "drive.readonly",
    ),
    (
        "403_insufficientFilePermissions",
        Class::Refused,
        "share the file",
    ),
    ("403_appNotAuthorizedToFile", Class::Refused, "application"),
    ("403_rateLimitExceeded", Class::Again, "limits"),
    ("403_userRateLimitExceeded", Class::Again, "limits"),
    ("403_dailyLimitExceeded", Class::Refused, "tomorrow"),
    ("403_downloadQuotaExceeded", Class::Refused, "24 hours"),
    ("403_cannotDownloadAbusiveFile", Class::Refused, "malware"),
    ("403_invalidAbuseAcknowledgment", Class::Refused, "malware"),
    ("403_cannotDownloadFile", Class::Refused, "owner"),
    (
        "403_fileNotDownloadable",
        Class::Refused,
        "no file with bytes",
    ),
    ("403_exportSizeLimitExceeded", Class::Refused, "too large"),
    ("403_domainPolicy", Class::Refused, "administrators"),
    ("404_notFound", Class::Missing, "share the file"),
    ("416_requestedRangeNotSatisfiable", Class::Nonsense, ""),
    ("429_rateLimitExceeded", Class::Again, "limits"),
    ("500_backendError", Class::Again, "500"),
    ("503_html", Class::Again, "503"),
];

fn fault(sample: &Value) -> Fault {
    let status = u16::try_from(sample["http_status"].as_u64().unwrap()).unwrap();
    match sample.get("body") {
        Some(body) => Fault::json(status, body),
        None => Fault::page(status),
    }
}

async fn ask(drive: &GoogleDrive, file: &RemoteFile, endpoint: Endpoint) -> RemoteError {
    match endpoint {
        Endpoint::Download => drive.download(file, 0, None).await.unwrap_err(),
        Endpoint::Metadata | Endpoint::Token => drive.metadata(ID, None).await.unwrap_err(),
    }
}

fn is_of(class: Class, error: &RemoteError) -> bool {
    match class {
        Class::Again => matches!(error, RemoteError::Unavailable { .. }),
        Class::Unauthorized | Class::Scope => matches!(error, RemoteError::Unauthorized(_)),
        Class::Refused => matches!(error, RemoteError::Refused(_)),
        Class::Missing => matches!(error, RemoteError::NotFound(_)),
        Class::Nonsense => matches!(error, RemoteError::Backend(_)),
    }
}

#[tokio::test]
async fn every_row_of_the_table_becomes_what_it_says() {
    let samples: Value = serde_json::from_str(SAMPLES).unwrap();
    let sampled = samples.as_object().unwrap().keys();
    let known = sampled.filter(|name| !name.starts_with('_')).count();
    assert_eq!(known, ROWS.len());
    for &(name, class, word) in ROWS {
        for endpoint in [Endpoint::Metadata, Endpoint::Download] {
            let site = Site::new();
            let drive = site.drive();
            let file = drive.metadata(ID, None).await.unwrap();
            let before = site.double.count(endpoint);
            site.double
                .fail_always(endpoint, Some(fault(&samples[name])));

            let error = ask(&drive, &file, endpoint).await;

            let text = chain(&error);
            assert!(is_of(class, &error), "{name}: {error:?}");
            assert!(text.contains(word), "{name}: {text}");
            let message = samples[name].pointer("/body/error/message");
            if let Some(message) = message.and_then(Value::as_str) {
                assert!(!text.contains(message), "{name} is in Google's words");
            }
            let attempts = site.double.count(endpoint) - before;
            let expected = match class {
                Class::Again => 3,
                Class::Unauthorized => 2,
                Class::Scope | Class::Refused | Class::Missing | Class::Nonsense => 1,
            };
            assert_eq!(attempts, expected, "{name}");
            let renewals = site.double.count(Endpoint::Token);
            assert_eq!(renewals == 2, class == Class::Unauthorized, "{name}");
        }
    }
}

#[tokio::test]
async fn what_passes_is_passed_over() {
    for fault in [
        Fault::api(403, "rateLimitExceeded"),
        Fault::api(403, "userRateLimitExceeded"),
        Fault::api(429, "rateLimitExceeded"),
        Fault::empty(408),
        Fault::empty(500),
        Fault::page(502),
        Fault::empty(429),
        Fault::Reset,
    ] {
        for endpoint in [Endpoint::Metadata, Endpoint::Download] {
            let site = Site::new();
            let drive = site.drive();
            let file = drive.metadata(ID, None).await.unwrap();
            site.double.fail_next(endpoint, fault.clone());
            site.double.fail_next(endpoint, fault.clone());

            drive.metadata(ID, None).await.unwrap();
            drive.download(&file, 0, None).await.unwrap();

            assert!(site.double.count(endpoint) >= 3, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn metadata_that_were_cut_are_read_again() {
    let site = Site::new();
    let drive = site.drive();
    site.double
        .fail_next(Endpoint::Metadata, Fault::CutAfter(20));

    drive.metadata(ID, None).await.unwrap();

    assert_eq!(site.double.count(Endpoint::Metadata), 2);
}

#[tokio::test]
async fn a_long_pause_is_left_to_the_caller() {
    let site = Site::new();
    let drive = site.drive();
    for (status, reason) in [
        (403, "userRateLimitExceeded"),
        (429, "x"),
        (503, "backendError"),
    ] {
        let fault = Fault::api(status, reason).with_header("retry-after", "120");
        site.double.fail_next(Endpoint::Metadata, fault);

        let error = drive.metadata(ID, None).await.unwrap_err();

        let RemoteError::Unavailable { retry_after, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(retry_after, Some(Duration::from_mins(2)));
    }
    assert_eq!(site.double.count(Endpoint::Metadata), 3);
}

#[tokio::test]
async fn an_error_without_a_reason_is_judged_by_its_status_word() {
    let word = |status: u16, word: &str| {
        Fault::json(
            status,
            &json!({"error": {"code": status, "message": "x", "status": word}}),
        )
    };
    for (fault, class) in [
        (word(403, "RESOURCE_EXHAUSTED"), Class::Again),
        (word(403, "PERMISSION_DENIED"), Class::Refused),
        (word(403, "UNAUTHENTICATED"), Class::Unauthorized),
        (Fault::page(403), Class::Refused),
        (Fault::empty(403), Class::Refused),
        (Fault::api(403, "somethingNew"), Class::Refused),
        (Fault::empty(404), Class::Missing),
        (Fault::page(401), Class::Unauthorized),
        (
            Fault::json(403, &json!({"error": "a string"})),
            Class::Refused,
        ),
        (Fault::json(403, &json!(["errors"])), Class::Refused),
    ] {
        let site = Site::new();
        site.double
            .fail_always(Endpoint::Metadata, Some(fault.clone()));

        let error = site.drive().metadata(ID, None).await.unwrap_err();

        assert!(is_of(class, &error), "{fault:?}: {error:?}");
    }
}

#[tokio::test]
async fn silence_ends_and_an_outage_is_told() {
    let site = Site::new();
    let drive = site.drive_with(DriveOptions {
        answer_timeout: Duration::from_millis(50),
        ..site.options()
    });
    site.double.accept_token("theirs");
    site.double
        .fail_always(Endpoint::Metadata, Some(Fault::Stall));
    let silent = drive.metadata(ID, lent("theirs")).await.unwrap_err();
    assert!(matches!(silent, RemoteError::Unavailable { .. }));
    assert!(chain(&silent).contains("50 ms"), "{}", chain(&silent));

    site.double.outage().begin();
    let gone = site.drive().metadata(ID, None).await.unwrap_err();
    assert!(matches!(gone, RemoteError::Unavailable { .. }));
}

#[tokio::test]
async fn an_endless_answer_is_not_read() {
    let site = Site::new();
    let endless = Fault::json(200, &json!({"name": "x".repeat(2_000_000)}));
    site.double.fail_next(Endpoint::Metadata, endless);

    let refused = site.drive().metadata(ID, None).await;

    assert!(matches!(refused, Err(RemoteError::Backend(_))));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (site, foreign) = (Site::new(), Site::new());
    let drive = site.drive();
    let file = drive.metadata(ID, None).await.unwrap();
    let there = format!("{}/files/{ID}", foreign.double.api_base_url());
    for endpoint in [Endpoint::Metadata, Endpoint::Download] {
        site.double
            .fail_always(endpoint, Some(Fault::redirect(&there)));

        let error = ask(&drive, &file, endpoint).await;

        assert!(matches!(error, RemoteError::Backend(_)), "{error:?}");
    }
    assert!(foreign.double.requests().is_empty());
}
