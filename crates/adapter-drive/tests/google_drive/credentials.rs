//! Every form that credentials come in.

use std::time::Duration;

use atelier_domain::ports::{RemoteError, RemoteSource as _};
use atelier_drive::{DriveCredentials, DriveVariables};
use atelier_testkit::drive_double::Endpoint;

use crate::site::{ID, Site, chain};

const GOOGLE_AUTH: &str = include_str!("../samples/GDOC_TOKEN_google_auth.json");
const SCOPES_STRING: &str = include_str!("../samples/GDOC_TOKEN_google_auth_scopes_string.json");
const MINIMAL: &str = include_str!("../samples/GDOC_TOKEN_google_auth_minimal.json");
const OAUTH2CLIENT: &str = include_str!("../samples/GDOC_TOKEN_oauth2client.json");
const RAW: &str = include_str!("../samples/GDOC_TOKEN_raw_token_response.json");
const CLIENT: &str = include_str!("../samples/GDOC_CLIENT_installed.json");

const CLIENT_ID: &str = "1234567890-abcdefg.apps.googleusercontent.com";
const CLIENT_SECRET: &str = "test-client-secret-TESTONLY";
const REFRESH_TOKEN: &str = "test-refresh-token-gTESTONLY";
const ACCESS_TOKEN: &str = "test-access-token-a0TESTONLY";

/// A Drive that knows what the samples hold.
fn sample_site() -> Site {
    let site = Site::new();
    site.double.know(CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN);
    site.double.accept_token(ACCESS_TOKEN);
    site
}

fn only(gdoc_token: &str) -> DriveVariables<'_> {
    DriveVariables {
        gdoc_token: Some(gdoc_token),
        ..DriveVariables::default()
    }
}

#[tokio::test]
async fn an_access_token_is_used_until_shortly_before_its_end() {
    for sample in [GOOGLE_AUTH, SCOPES_STRING, OAUTH2CLIENT] {
        let site = sample_site();
        let drive = site.drive_as(sample);

        drive.metadata(ID, None).await.unwrap();
        // The samples' tokens end an hour after the clock's begin.
        site.clock.advance(Duration::from_mins(56));
        drive.metadata(ID, None).await.unwrap();
        assert_eq!(site.double.count(Endpoint::Token), 0, "{sample}");

        site.clock.advance(Duration::from_secs(20));
        drive.metadata(ID, None).await.unwrap();
        assert_eq!(site.double.count(Endpoint::Token), 1, "{sample}");
        let bearer = site.double.requests().last().unwrap().bearer.clone();
        assert_ne!(bearer.as_deref(), Some(ACCESS_TOKEN), "{sample}");
    }
}

#[tokio::test]
async fn a_token_without_an_end_is_renewed_first() {
    let site = sample_site();
    let timeless = GOOGLE_AUTH.replace("expiry", "no_expiry");
    let unreadable = GOOGLE_AUTH.replace("2026-01-01T01", "soon");

    for (renewals, gdoc_token) in [MINIMAL, &timeless, &unreadable].into_iter().enumerate() {
        let drive = site.drive_as(gdoc_token);
        drive.metadata(ID, None).await.unwrap();
        assert_eq!(site.double.count(Endpoint::Token), renewals + 1);
    }
    let requests = site.double.requests();
    assert!(
        !requests
            .iter()
            .any(|request| request.bearer.as_deref() == Some(ACCESS_TOKEN))
    );
}

#[tokio::test]
async fn a_raw_answer_takes_its_client_from_elsewhere() {
    let places = [
        DriveVariables {
            gdoc_client: Some(CLIENT),
            ..only(RAW)
        },
        DriveVariables {
            client_id: Some(CLIENT_ID),
            client_secret: Some(CLIENT_SECRET),
            ..only(RAW)
        },
        DriveVariables {
            gdoc_client: Some(CLIENT),
            client_id: Some("another one"),
            client_secret: Some("and its secret"),
            ..only(RAW)
        },
    ];
    let web = CLIENT.replace("installed", "web");
    let web = DriveVariables {
        gdoc_client: Some(&web),
        ..only(RAW)
    };
    for variables in places.iter().chain([&web]) {
        let site = sample_site();
        let drive = site.drive_from(variables);
        drive.metadata(ID, None).await.unwrap();
        assert_eq!(site.double.count(Endpoint::Token), 1);
    }
}

#[tokio::test]
async fn a_token_goes_with_its_own_client() {
    let site = sample_site();
    let others = DriveVariables {
        client_id: Some("another one"),
        client_secret: Some("and its secret"),
        ..only(MINIMAL)
    };
    site.drive_from(&others).metadata(ID, None).await.unwrap();

    let without_secret = MINIMAL.replace("client_secret", "no_secret");
    let refused = DriveCredentials::parse(&DriveVariables {
        gdoc_token: Some(&without_secret),
        ..others
    });
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("GOOGLE_CLIENT_SECRET")
    );
    let same_client = DriveVariables {
        client_id: None,
        client_secret: Some(CLIENT_SECRET),
        ..only(&without_secret)
    };
    site.drive_from(&same_client)
        .metadata(ID, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn where_tokens_are_is_not_taken_from_the_file() {
    let site = sample_site();
    let planted = GOOGLE_AUTH.replace(
        "https://oauth2.googleapis.com/token",
        "http://127.0.0.1:1/token",
    );
    site.clock.advance(Duration::from_hours(2));

    site.drive_as(&planted).metadata(ID, None).await.unwrap();

    assert_eq!(site.double.count(Endpoint::Token), 1);
}

#[tokio::test]
async fn a_service_account_vouches_for_itself() {
    let site = Site::new();
    let key = site.double.service_account_key();
    let drive = site.drive_as(&key);

    drive.metadata(ID, None).await.unwrap();
    drive.metadata(ID, None).await.unwrap();
    assert_eq!(site.double.count(Endpoint::Token), 1);

    let missing = drive.metadata("1NobodyHasThis", None).await;
    assert!(
        matches!(&missing, Err(RemoteError::NotFound(text)) if text.contains("atelier@double.iam.gserviceaccount.com")),
        "{missing:?}"
    );
}

#[tokio::test]
async fn a_service_account_that_google_does_not_know_is_told() {
    let (site, other) = (Site::new(), Site::new());
    site.double.service_account_key();

    let drive = site.drive_as(&other.double.service_account_key());
    let refused = drive.metadata(ID, None).await.unwrap_err();

    assert!(matches!(refused, RemoteError::Unauthorized(_)));
    let text = chain(&refused);
    assert!(
        text.contains("service account") && text.contains("GDOC_TOKEN"),
        "{text}"
    );
    assert_eq!(site.double.count(Endpoint::Metadata), 0);
}

#[test]
fn what_is_no_credential_is_refused_with_the_reason() {
    let dead = OAUTH2CLIENT.replace(r#""invalid": false"#, r#""invalid": true"#);
    let quoted = format!("'{MINIMAL}'");
    let access_only = r#"{"access_token": "secret-value", "client_id": "a", "client_secret": "b"}"#;
    let bad_key = r#"{"type": "service_account", "client_email": "a@b", "private_key": "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LXZhbHVl\n-----END PRIVATE KEY-----\n"}"#;
    let no_key = r#"{"type": "service_account", "client_email": "a@b"}"#;
    for (gdoc_token, word) in [
        (dead.as_str(), "no longer valid"),
        (quoted.as_str(), "quotes"),
        (r#""{\"refresh_token\": \"secret-value\"}""#, "quotes"),
        ("eyJyZWZyZXNoX3Rva2VuIjogInNlY3JldC12YWx1ZSJ9", "base64"),
        ("{\"refresh_token\": secret-value}", "line 1, column 19"),
        ("[\"secret-value\"]", "no JSON object"),
        ("refresh_token: secret-value", "no JSON object"),
        (CLIENT, "GDOC_CLIENT"),
        (r#"{"type": "external_account"}"#, "type"),
        (access_only, "refresh_token"),
        (RAW, "GOOGLE_CLIENT_ID"),
        (bad_key, "private_key"),
        (no_key, "private_key"),
        (&"x".repeat(70_000), "65536 bytes"),
    ] {
        let refused = DriveCredentials::parse(&only(gdoc_token)).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(word) && text.contains("GDOC_TOKEN"), "{text}");
        assert!(
            !text.contains("secret-value") && !text.contains("TESTONLY"),
            "{text}"
        );
    }
    let refused = DriveCredentials::parse(&DriveVariables {
        gdoc_client: Some("{\"installed\": {}}"),
        ..only(RAW)
    });
    assert!(refused.unwrap_err().to_string().contains("GDOC_CLIENT"));
}

#[test]
fn no_token_is_no_credential() {
    let blank = DriveVariables {
        gdoc_token: Some("  \n"),
        client_id: Some(CLIENT_ID),
        client_secret: Some(CLIENT_SECRET),
        ..DriveVariables::default()
    };

    assert!(DriveCredentials::parse(&blank).unwrap().is_none());
    let absent = DriveCredentials::parse(&DriveVariables::default());
    assert!(absent.unwrap().is_none());
}
