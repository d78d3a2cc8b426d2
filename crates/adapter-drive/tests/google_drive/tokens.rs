//! Access tokens: when they are renewed, how often, and what becomes of it.

use std::time::Duration;

use atelier_domain::ports::{RemoteError, RemoteSource as _};
use atelier_testkit::drive_double::{Endpoint, Fault};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::site::{ID, Site, chain, lent};

const REFUSALS: &str = include_str!("../samples/token_refresh_errors.json");

#[tokio::test]
async fn twenty_callers_share_one_renewal() {
    let site = Site::new();
    let drive = site.drive();

    let found = join_all((0..20).map(|_caller| drive.metadata(ID, None))).await;

    assert!(found.iter().all(Result::is_ok));
    assert_eq!(site.double.count(Endpoint::Token), 1);
    assert_eq!(site.double.count(Endpoint::Metadata), 20);
}

#[tokio::test]
async fn twenty_callers_share_one_failure() {
    let site = Site::new();
    site.double
        .fail_always(Endpoint::Token, Some(Fault::oauth(500, "internal_failure")));
    let drive = site.drive();

    let found = join_all((0..20).map(|_caller| drive.metadata(ID, None))).await;

    let unavailable = |error: &Result<_, _>| matches!(error, Err(RemoteError::Unavailable { .. }));
    assert!(found.iter().all(unavailable));
    assert_eq!(site.double.count(Endpoint::Token), 3);

    site.double.fail_always(Endpoint::Token, None);
    drive.metadata(ID, None).await.unwrap();
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end() {
    let site = Site::new();
    let drive = site.drive();
    drive.metadata(ID, None).await.unwrap();

    site.clock.advance(Duration::from_secs(3_599 - 226));
    drive.metadata(ID, None).await.unwrap();
    assert_eq!(site.double.count(Endpoint::Token), 1);

    site.clock.advance(Duration::from_secs(2));
    drive.metadata(ID, None).await.unwrap();
    assert_eq!(site.double.count(Endpoint::Token), 2);
}

#[tokio::test]
async fn odd_lives_of_tokens_are_understood() {
    let site = Site::new();
    let drive = site.drive();
    site.double.set_token_life_as_text(3_599);
    drive.metadata(ID, None).await.unwrap();
    site.clock.advance(Duration::from_mins(50));
    drive.metadata(ID, None).await.unwrap();
    assert_eq!(site.double.count(Endpoint::Token), 1, "told as text");

    site.clock.advance(Duration::from_hours(1));
    site.double.set_token_life(Some(60));
    drive.metadata(ID, None).await.unwrap();
    drive.metadata(ID, None).await.unwrap();
    assert_eq!(site.double.count(Endpoint::Token), 2, "a short life");

    site.clock.advance(Duration::from_hours(1));
    site.double.set_token_life(None);
    drive.metadata(ID, None).await.unwrap();
    drive.metadata(ID, None).await.unwrap();
    assert_eq!(site.double.count(Endpoint::Token), 3, "an untold life");
    site.clock.advance(Duration::from_mins(10));
    drive.metadata(ID, None).await.unwrap();
    assert_eq!(site.double.count(Endpoint::Token), 4);
}

#[tokio::test]
async fn the_recorded_answer_is_understood() {
    let site = Site::new();
    let recorded = include_str!("../samples/token_refresh_200.json");
    let recorded = Fault::json(200, &serde_json::from_str(recorded).unwrap());
    site.double.fail_next(Endpoint::Token, recorded);
    site.double.accept_token("test-access-token-a0NEWTESTONLY");
    let drive = site.drive();

    drive.metadata(ID, None).await.unwrap();
    site.clock.advance(Duration::from_mins(50));
    drive.metadata(ID, None).await.unwrap();

    assert_eq!(site.double.count(Endpoint::Token), 1);
}

#[tokio::test]
async fn a_new_refresh_token_takes_the_place_of_the_old_one() {
    let site = Site::new();
    let drive = site.drive();
    site.double.rotate_refresh_tokens();

    for _hour in 0..3 {
        drive.metadata(ID, None).await.unwrap();
        site.clock.advance(Duration::from_hours(1));
    }

    assert_eq!(site.double.count(Endpoint::Token), 3);
}

#[tokio::test]
async fn refusals_for_good_are_told_in_words_and_not_repeated() {
    let refusals: Value = serde_json::from_str(REFUSALS).unwrap();
    let unauthorized_client = json!({"error": "unauthorized_client"});
    let more = [("unauthorized_client", 400, &unauthorized_client)];
    let sampled = refusals.as_object().unwrap().iter().map(|(name, sample)| {
        let status = u16::try_from(sample["http_status"].as_u64().unwrap()).unwrap();
        (name.as_str(), status, &sample["body"])
    });
    for (name, status, body) in sampled
        .chain(more)
        .filter(|(name, ..)| *name != "transient")
    {
        let site = Site::new();
        site.double
            .fail_always(Endpoint::Token, Some(Fault::json(status, body)));
        let drive = site.drive();

        for _caller in 0..2 {
            let refused = drive.metadata(ID, None).await.unwrap_err();
            assert!(matches!(refused, RemoteError::Unauthorized(_)), "{name}");
            let text = chain(&refused);
            assert!(text.contains("GDOC_TOKEN"), "{name}: {text}");
            assert!(text.contains(body["error"].as_str().unwrap()), "{text}");
        }
        assert_eq!(site.double.count(Endpoint::Token), 1, "{name}");

        // Somebody may have mended it on Google's side.
        site.clock.advance(Duration::from_mins(2));
        site.double.fail_always(Endpoint::Token, None);
        drive.metadata(ID, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_revoked_refresh_token_is_told() {
    let site = Site::new();
    let drive = site.drive();
    site.double.revoke_refresh_token();

    let refused = drive.check_credentials().await;

    assert!(
        matches!(refused, Err(RemoteError::Unauthorized(text)) if text.contains("invalid_grant"))
    );
}

#[tokio::test]
async fn passing_failures_of_the_token_endpoint_are_passed_over() {
    for fault in [
        Fault::oauth(500, "internal_failure"),
        Fault::oauth(400, "server_error"),
        Fault::oauth(400, "temporarily_unavailable"),
        Fault::empty(408),
        Fault::empty(429),
        Fault::page(503),
        Fault::Reset,
        Fault::CutAfter(4),
    ] {
        let site = Site::new();
        site.double.fail_next(Endpoint::Token, fault.clone());

        let found = site.drive().metadata(ID, None).await;

        assert!(found.is_ok(), "{fault:?}: {found:?}");
        assert_eq!(site.double.count(Endpoint::Token), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn an_answer_without_a_token_makes_no_sense() {
    for fault in [
        Fault::page(200),
        Fault::json(200, &json!({"token_type": "Bearer"})),
        Fault::json(200, &json!({"access_token": "two words"})),
        Fault::redirect("https://accounts.google.com/"),
    ] {
        let site = Site::new();
        site.double.fail_next(Endpoint::Token, fault.clone());

        let found = site.drive().metadata(ID, None).await;

        assert!(
            matches!(found, Err(RemoteError::Backend(_))),
            "{fault:?}: {found:?}"
        );
    }
}

#[tokio::test]
async fn a_refused_access_token_is_renewed_once() {
    let site = Site::new();
    let drive = site.drive();
    drive.metadata(ID, None).await.unwrap();

    site.double.revoke_access_tokens();
    drive.metadata(ID, None).await.unwrap();
    assert_eq!(site.double.count(Endpoint::Token), 2);
    assert_eq!(site.double.count(Endpoint::Metadata), 3);

    site.double
        .fail_always(Endpoint::Metadata, Some(Fault::api(401, "authError")));
    let refused = drive.metadata(ID, None).await;
    assert!(matches!(refused, Err(RemoteError::Unauthorized(text)) if text.contains("GDOC_TOKEN")));
    assert_eq!(site.double.count(Endpoint::Token), 3);
    assert_eq!(site.double.count(Endpoint::Metadata), 5);
}

#[tokio::test]
async fn many_refused_at_once_renew_once() {
    let site = Site::new();
    let drive = site.drive();
    drive.metadata(ID, None).await.unwrap();
    site.double.revoke_access_tokens();

    let found = join_all((0..20).map(|_caller| drive.metadata(ID, None))).await;

    assert!(found.iter().all(Result::is_ok));
    assert_eq!(site.double.count(Endpoint::Token), 2);
}

#[tokio::test]
async fn a_lent_token_is_the_only_one_that_is_used() {
    let site = Site::new();
    site.double.accept_token("theirs");
    site.double
        .edit(ID, |file| file.readers = Some(vec!["theirs".to_owned()]));
    let drive = site.drive();

    let file = drive.metadata(ID, lent("theirs")).await.unwrap();
    drive.download(&file, 0, lent("theirs")).await.unwrap();
    drive.download(&file, 9, lent("theirs")).await.unwrap();

    assert_eq!(site.double.count(Endpoint::Token), 0);
    let requests = site.double.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.bearer.as_deref() == Some("theirs"))
    );
    // Our own account does not see it.
    let hidden = drive.metadata(ID, None).await;
    assert!(matches!(hidden, Err(RemoteError::NotFound(_))));
}

#[tokio::test]
async fn a_lent_token_is_never_renewed() {
    let site = Site::new();
    let drive = site.drive();

    let refused = drive.metadata(ID, lent("expired")).await;

    assert!(
        matches!(&refused, Err(RemoteError::Unauthorized(text)) if text.contains("sent along") && !text.contains("GDOC")),
        "{refused:?}"
    );
    assert_eq!(site.double.count(Endpoint::Metadata), 1);
    assert_eq!(site.double.count(Endpoint::Token), 0);
}

#[tokio::test]
async fn without_credentials_only_lent_tokens_work() {
    let site = Site::new();
    site.double.accept_token("theirs");
    let drive = site.drive_with(site.options());
    assert!(!drive.is_configured());

    let file = drive.metadata(ID, lent("theirs")).await.unwrap();
    drive.download(&file, 0, lent("theirs")).await.unwrap();

    for refused in [
        drive.metadata(ID, None).await.map(|_file| ()),
        drive.download(&file, 0, None).await.map(|_reader| ()),
        drive.check_credentials().await,
    ] {
        let Err(RemoteError::NotConfigured(text)) = refused else {
            panic!("{refused:?}");
        };
        for variable in ["GDOC_TOKEN", "GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"] {
            assert!(text.contains(variable), "{text}");
        }
    }
}

#[test]
fn a_client_works_from_any_runtime() {
    let io = tokio::runtime::Runtime::new().unwrap();
    let site = Site::new();
    let drive = {
        let _entered = io.enter();
        site.drive()
    };

    for _worker in 0..2 {
        let worker = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        worker.block_on(async {
            let file = drive.metadata(ID, None).await.unwrap();
            let mut reader = drive.download(&file, 0, None).await.unwrap();
            let (received, error) = crate::site::read(&mut reader).await;
            assert!(error.is_none());
            assert_eq!(received.len() as u64, crate::site::size_of(&file));
        });
    }
    assert_eq!(site.double.count(Endpoint::Token), 1);
}
