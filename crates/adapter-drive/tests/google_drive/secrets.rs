//! Nothing that is secret is ever shown.

use std::time::Duration;

use atelier_domain::ports::{RemoteError, RemoteSource as _};
use atelier_drive::{DriveCredentials, DriveOptions, DriveVariables};
use atelier_testkit::drive_double::{Endpoint, Fault};
use serde_json::{Value, json};

use crate::site::{ID, Site, chain, lent};

const LENT: &str = "lent-token-TOPSECRET";

/// Everything that no text may hold.
fn secrets(site: &Site, gdoc_token: &str) -> Vec<String> {
    let file: Value = serde_json::from_str(gdoc_token).unwrap();
    let of_file = ["refresh_token", "client_secret", "private_key"]
        .iter()
        .filter_map(|name| Some(file.get(name)?.as_str()?.to_owned()));
    let used = site
        .double
        .requests()
        .into_iter()
        .filter_map(|request| request.bearer);
    of_file.chain(used).chain([LENT.to_owned()]).collect()
}

fn shown(error: &RemoteError) -> String {
    format!("{error:?} {error:#?} {}", chain(error))
}

/// Answers that quote what was sent.
fn echoes(quoted: &str) -> Vec<Fault> {
    let api = |status: u16, reason: &str| {
        let told = json!({"reason": reason, "message": quoted});
        Fault::json(
            status,
            &json!({"error": {"message": quoted, "errors": [told]}}),
        )
    };
    let mut faults: Vec<Fault> = [400, 401, 403, 404, 408, 416, 429, 500, 503]
        .into_iter()
        .map(|status| api(status, quoted))
        .collect();
    for reason in [
        "rateLimitExceeded",
        "domainPolicy",
        "insufficientPermissions",
    ] {
        faults.push(api(403, reason));
    }
    for status in [200, 400, 401, 500] {
        let told =
            json!({"error": quoted, "error_description": quoted, "id": quoted, "size": quoted});
        faults.push(Fault::json(status, &told));
    }
    let location = format!("http://127.0.0.1:1/?token={quoted}");
    faults.extend([
        Fault::redirect(&location),
        Fault::Reset,
        Fault::Stall,
        Fault::CutAfter(3),
    ]);
    faults
}

#[tokio::test]
async fn no_error_shows_a_secret() {
    let site = Site::new();
    let user = site.double.gdoc_token();
    let account = site.double.service_account_key();
    for gdoc_token in [user, account] {
        let credentials = DriveCredentials::parse(&DriveVariables {
            gdoc_token: Some(&gdoc_token),
            ..DriveVariables::default()
        });
        let options = DriveOptions {
            credentials: credentials.unwrap(),
            answer_timeout: Duration::from_millis(50),
            ..site.options()
        };
        let quoted = secrets(&site, &gdoc_token).join(" ");
        let drive = site.drive_with(options.clone());
        site.double.accept_token(LENT);
        let file = drive.metadata(ID, lent(LENT)).await.unwrap();
        let mut texts = vec![format!("{options:?} {drive:?}")];
        for endpoint in [Endpoint::Token, Endpoint::Metadata, Endpoint::Download] {
            for fault in echoes(&quoted) {
                // Past the end of every access token, and of every refusal.
                site.clock.advance(Duration::from_hours(2));
                site.double.fail_always(endpoint, Some(fault));
                for token in [None, lent(LENT)] {
                    let metadata = drive.metadata(ID, token.clone()).await;
                    texts.extend(metadata.err().map(|error| shown(&error)));
                    let download = drive.download(&file, 9, token).await;
                    texts.extend(download.err().map(|error| shown(&error)));
                }
                site.double.fail_always(endpoint, None);
            }
        }
        assert!(texts.len() > 100, "{}", texts.len());
        let secrets = secrets(&site, &gdoc_token);
        assert!(
            secrets
                .iter()
                .any(|secret| secret.starts_with("double-access"))
        );
        for text in texts {
            assert!(!text.contains(ID), "which file it was is in {text}");
            for secret in &secrets {
                assert!(!text.contains(secret), "{secret} is in {text}");
            }
        }
    }
}

#[test]
fn no_debug_shows_a_secret() {
    let site = Site::new();
    let key = site.double.service_account_key();
    for gdoc_token in [site.double.gdoc_token(), key] {
        let variables = DriveVariables {
            gdoc_token: Some(&gdoc_token),
            gdoc_client: Some(r#"{"installed": {"client_id": "a", "client_secret": "hush-hush"}}"#),
            client_id: Some("b"),
            client_secret: Some("hush-hush"),
        };
        let credentials = DriveCredentials::parse(&variables).unwrap();
        let options = DriveOptions {
            credentials: credentials.clone(),
            api_base_url: "https://user:hush-hush@example.org".to_owned(),
            ..DriveOptions::default()
        };
        let text = format!("{variables:?} {credentials:?} {options:?} {options:#?}");

        for secret in secrets(&site, &gdoc_token) {
            assert!(!text.contains(&secret), "{text}");
        }
        assert!(!text.contains("hush-hush"), "{text}");
    }
}
