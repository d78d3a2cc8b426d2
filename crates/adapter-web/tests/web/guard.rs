use std::sync::Arc;

use atelier_domain::ports::{RemoteError, RemoteSource};
use atelier_web::{HostRule, SystemResolver, WebOptions};

use crate::support::{HUB, Names, STORE, Seen, World, downloads, redirect, said, serve};

const REFUSAL: &str = "no address on the public Internet";

fn is_refusal(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Refused(text) if text.contains(REFUSAL))
}

fn to_the_store(seen: &Seen) -> String {
    let port = seen.header("host").unwrap().split_once(':').unwrap().1;
    format!("https://{STORE}:{port}/a")
}

#[tokio::test]
async fn a_host_with_a_private_address_is_not_gone_to_and_the_address_is_not_told() {
    let world = World::new(|seen| serve(seen, b"0123456789", &[])).await;
    for address in [
        "127.0.0.2",
        "::ffff:127.0.0.2",
        "::1",
        "10.1.2.3",
        "169.254.169.254",
    ] {
        let guarded = downloads(WebOptions {
            resolver: match address {
                "127.0.0.2" => Names::fixed(&[(HUB, "127.0.0.2")]),
                "::ffff:127.0.0.2" => Names::fixed(&[(HUB, "::ffff:127.0.0.2")]),
                "::1" => Names::fixed(&[(HUB, "::1")]),
                "10.1.2.3" => Names::fixed(&[(HUB, "10.1.2.3")]),
                _ => Names::fixed(&[(HUB, "169.254.169.254")]),
            },
            ..world.options()
        });

        let error = guarded
            .metadata(&world.url(HUB, "/a.safetensors"), None)
            .await
            .unwrap_err();

        assert!(is_refusal(&error), "{address}: {error:?}");
        assert!(!said(&error).contains(address), "{}", said(&error));
    }
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn without_opened_networks_loopback_is_closed() {
    let world = World::new(|seen| serve(seen, b"0123456789", &[])).await;
    let closed = downloads(WebOptions {
        open_networks: Vec::new(),
        ..world.options()
    });

    let error = closed
        .metadata(&world.url(HUB, "/a.safetensors"), None)
        .await
        .unwrap_err();

    assert!(is_refusal(&error), "{error:?}");
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn a_redirect_to_a_host_with_a_private_address_is_not_followed() {
    let world = World::new(|seen| redirect(&to_the_store(seen))).await;
    let guarded = downloads(WebOptions {
        resolver: Names::fixed(&[(STORE, "127.0.0.2")]),
        ..world.options()
    });

    let error = guarded
        .metadata(&world.url(HUB, "/a.safetensors"), None)
        .await
        .unwrap_err();

    assert!(is_refusal(&error), "{error:?}");
    assert!(error.to_string().contains(STORE), "{error}");
    assert_eq!(world.visits(), ["hub.test/a.safetensors"]);
}

#[tokio::test]
async fn a_name_that_turns_private_between_two_hops_is_not_gone_to_again() {
    let world = World::new(|seen| match seen.path.as_str() {
        "/start" => redirect("/again"),
        _ => serve(seen, b"0123456789", &[]),
    })
    .await;
    let guarded = downloads(WebOptions {
        resolver: Names::changing(HUB, &["127.0.0.1", "127.0.0.2"]),
        ..world.options()
    });

    let error = guarded
        .metadata(&world.url(HUB, "/start"), None)
        .await
        .unwrap_err();

    assert!(is_refusal(&error), "{error:?}");
    assert_eq!(world.visits(), ["hub.test/start"]);
}

#[tokio::test]
async fn a_name_that_turns_private_before_the_download_is_not_gone_to_again() {
    let world = World::new(|seen| serve(seen, b"0123456789", &[])).await;
    let guarded = downloads(WebOptions {
        resolver: Names::changing(HUB, &["127.0.0.1", "127.0.0.2"]),
        ..world.options()
    });

    let file = guarded
        .metadata(&world.url(HUB, "/a.safetensors"), None)
        .await
        .unwrap();
    let error = guarded.download(&file, 0, None).await.unwrap_err();

    assert!(is_refusal(&error), "{error:?}");
    assert_eq!(world.seen().len(), 1);
}

#[tokio::test]
async fn a_host_that_is_no_longer_allowed_is_not_downloaded_from() {
    let world = World::new(|seen| serve(seen, b"0123456789", &[])).await;
    let file = world
        .downloads()
        .metadata(&world.url(HUB, "/a.safetensors"), None)
        .await
        .unwrap();
    let later = downloads(WebOptions {
        allowed_hosts: vec![HostRule::parse("other.test").unwrap()],
        ..world.options()
    });

    let error = later.download(&file, 0, None).await.unwrap_err();

    assert!(matches!(error, RemoteError::Refused(_)), "{error:?}");
    assert_eq!(world.seen().len(), 1);
}

#[tokio::test]
async fn an_unknown_host_is_unavailable() {
    let nowhere = downloads(WebOptions {
        allowed_hosts: vec![HostRule::parse("nowhere.invalid").unwrap()],
        ..WebOptions::default()
    });

    let error = nowhere
        .metadata("https://nowhere.invalid/a.safetensors?size=full", None)
        .await
        .unwrap_err();

    assert!(
        matches!(error, RemoteError::Unavailable { .. }),
        "{error:?}"
    );
    assert!(!said(&error).contains("size=full"), "{}", said(&error));
}

#[tokio::test]
async fn plain_http_has_to_be_switched_on() {
    let world = World::plain(|seen| serve(seen, b"0123456789", &[])).await;
    let link = world.url(HUB, "/a.safetensors");
    let switched_on = downloads(WebOptions {
        plain_http: true,
        ..world.options()
    });

    let by_default = world.downloads().metadata(&link, None).await;
    let file = switched_on.metadata(&link, None).await;

    assert!(
        matches!(by_default, Err(RemoteError::Refused(_))),
        "{by_default:?}"
    );
    assert_eq!(file.unwrap().size_bytes, Some(10));
    assert_eq!(world.seen().len(), 1);
}

#[tokio::test]
async fn a_host_of_this_machine_can_be_opened_by_configuration_alone() {
    let world = World::plain(|seen| serve(seen, b"0123456789", &[])).await;
    let opened = downloads(WebOptions {
        allowed_hosts: vec![HostRule::parse(&format!("localhost:{}", world.port)).unwrap()],
        open_networks: vec!["127.0.0.0/8".parse().unwrap()],
        plain_http: true,
        resolver: Arc::new(SystemResolver),
        ..WebOptions::default()
    });

    let file = opened
        .metadata(&world.url("localhost", "/a.safetensors"), None)
        .await
        .unwrap();

    assert_eq!(file.size_bytes, Some(10));
}
