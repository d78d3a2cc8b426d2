use atelier_domain::ports::{RemoteError, RemoteSource};
use atelier_web::WebOptions;

use crate::support::{
    HUB, STORE, STRANGER, Seen, Step, World, downloads, redirect, reply, said, serve, token,
};

fn at(seen: &Seen, host: &str, path: &str) -> String {
    let port = seen.header("host").unwrap().split_once(':').unwrap().1;
    format!("https://{host}:{port}{path}")
}

/// Asks for `/start` on the hub, which a script then sends on.
async fn asked(
    script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
) -> (World, Result<(), RemoteError>) {
    let world = World::new(script).await;
    let link = world.url(HUB, "/start");
    let outcome = world.downloads().metadata(&link, token()).await;
    (world, outcome.map(drop))
}

#[tokio::test]
async fn a_token_goes_to_the_host_of_the_link_alone() {
    let (world, outcome) = asked(|seen| match (seen.host.as_str(), seen.path.as_str()) {
        (HUB, "/start") => redirect("/moved"),
        (HUB, "/moved") => redirect(&at(seen, STORE, "/a?Signature=s")),
        (STORE, "/a?Signature=s") => redirect(&at(seen, HUB, "/back")),
        _ => serve(seen, b"0123456789", &[]),
    })
    .await;

    outcome.unwrap();
    let sent: Vec<_> = world
        .seen()
        .iter()
        .map(|seen| (seen.path.clone(), seen.header("authorization").is_some()))
        .collect();
    assert_eq!(
        sent,
        [
            ("/start".to_owned(), true),
            ("/moved".to_owned(), true),
            ("/a?Signature=s".to_owned(), false),
            ("/back".to_owned(), false),
        ]
    );
    assert_eq!(
        world.seen()[0].header("authorization"),
        Some("Bearer very-secret")
    );
    assert!(
        world
            .seen()
            .iter()
            .all(|seen| seen.header("referer").is_none())
    );
}

#[tokio::test]
async fn every_kind_of_redirect_is_followed() {
    for status in ["301 a", "302 a", "303 a", "307 a", "308 a"] {
        let (world, outcome) = asked(move |seen| match seen.path.as_str() {
            "/start" => reply(status, &[("Location", "next#part")], b"moved"),
            _ => serve(seen, b"0123456789", &[]),
        })
        .await;

        outcome.unwrap();
        assert_eq!(world.visits(), ["hub.test/start", "hub.test/next"]);
    }
}

#[tokio::test]
async fn the_fifth_redirect_is_followed_and_the_sixth_is_not() {
    for (redirects, arrives) in [(5_usize, true), (6, false)] {
        let (world, outcome) = asked(move |seen| {
            let hop = seen.path.trim_start_matches("/start").len();
            if hop < redirects {
                redirect(&format!("/start{}", "x".repeat(hop + 1)))
            } else {
                serve(seen, b"0123456789", &[])
            }
        })
        .await;

        assert_eq!(world.seen().len(), 6);
        match outcome {
            Ok(()) => assert!(arrives),
            Err(error) => {
                assert!(!arrives && matches!(error, RemoteError::Refused(_)));
                assert!(error.to_string().contains("more than 5 times"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_away_from_what_is_allowed_is_not_followed() {
    for (to, reason) in [
        ("https://stranger.test:PORT/a", "leads on to stranger.test:"),
        ("https://store.test/a", "leads on to store.test,"),
        (
            "https://hub.test.evil.test:PORT/a",
            "leads on to hub.test.evil.test:",
        ),
        ("//stranger.test:PORT/a", "leads on to stranger.test:"),
        ("http://store.test:PORT/a", "https://"),
        ("http://hub.test:PORT/a", "https://"),
        ("file:///etc/passwd", "https://"),
        ("https://u:p@store.test:PORT/a", "user name"),
        ("https://127.0.0.1:PORT/a", "IP address"),
        ("https://2130706433:PORT/a", "IP address"),
        ("https://[::1]:PORT/a", "IP address"),
        ("https://169.254.169.254/latest/meta-data/", "IP address"),
    ] {
        let (world, outcome) = asked(move |seen| {
            let port = seen.header("host").unwrap().split_once(':').unwrap().1;
            redirect(&to.replace("PORT", port))
        })
        .await;

        let error = outcome.unwrap_err();
        assert!(matches!(error, RemoteError::Refused(_)), "{to}: {error:?}");
        assert!(error.to_string().contains(reason), "{to}: {error}");
        assert_eq!(world.visits(), ["hub.test/start"], "{to}");
    }
}

#[tokio::test]
async fn a_redirect_that_leads_nowhere_makes_no_sense() {
    for headers in [
        &[][..],
        &[("Location", "https://")],
        &[("Location", "https://:x/")],
    ] {
        let headers = headers.to_vec();
        let (_world, outcome) = asked(move |_| reply("302 Found", &headers, b"")).await;

        let error = outcome.unwrap_err();
        assert!(matches!(error, RemoteError::Backend(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_storage_host_cannot_be_named_in_a_link() {
    let world = World::new(|seen| serve(seen, b"0123456789", &[])).await;

    for host in [STORE, STRANGER] {
        let link = world.url(host, "/a.safetensors");
        let error = world.downloads().metadata(&link, None).await.unwrap_err();
        assert!(
            error.to_string().contains("does not import from"),
            "{error}"
        );
    }
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn a_signed_link_that_ran_out_on_the_way_is_worth_another_try() {
    let (_world, outcome) = asked(|seen| match seen.host.as_str() {
        HUB => redirect(&at(seen, STORE, "/a?Signature=confidential")),
        _ => reply("403 Forbidden", &[], b""),
    })
    .await;

    let error = outcome.unwrap_err();
    assert!(
        matches!(error, RemoteError::Unavailable { .. }),
        "{error:?}"
    );
    assert!(!format!("{} {error:?}", said(&error)).contains("confidential"));
}

#[tokio::test]
async fn a_connection_that_breaks_on_the_way_shows_no_signature() {
    let (_world, outcome) = asked(|seen| match seen.host.as_str() {
        HUB => redirect(&at(seen, STORE, "/a?Signature=confidential")),
        _ => vec![Step::Send(b"HTTP/1.1 what".to_vec())],
    })
    .await;

    let error = outcome.unwrap_err();
    assert!(
        matches!(error, RemoteError::Unavailable { .. }),
        "{error:?}"
    );
    assert!(!format!("{} {error:?}", said(&error)).contains("confidential"));
    assert!(!format!("{} {error:?}", said(&error)).contains("very-secret"));
}

#[tokio::test]
async fn no_redirect_at_all_can_be_wished() {
    let world = World::new(|_| redirect("/next")).await;
    let strict = downloads(WebOptions {
        max_redirects: 0,
        ..world.options()
    });

    let error = strict.metadata(&world.url(HUB, "/start"), None).await;

    assert!(matches!(error, Err(RemoteError::Refused(_))), "{error:?}");
    assert_eq!(world.seen().len(), 1);
}
