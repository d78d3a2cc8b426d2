use std::time::Duration;

use atelier_domain::lora::LoraSource;
use atelier_domain::ports::{RemoteError, RemoteFile, RemoteSource};
use atelier_web::WebOptions;

use crate::support::{
    HUB, STORE, Seen, Step, World, downloads, head, redirect, reply, said, serve, token,
};

const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

async fn metadata(world: &World, path: &str) -> Result<RemoteFile, RemoteError> {
    let link = world.url(HUB, path);
    world.downloads().metadata(&link, None).await
}

/// What the host's one answer is made of.
async fn described(
    script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
) -> Result<RemoteFile, RemoteError> {
    let world = World::new(script).await;
    metadata(&world, "/folder/a%20b.safetensors").await
}

#[tokio::test]
async fn a_plain_file_is_described_by_its_first_byte() {
    let world = World::new(|seen| serve(seen, b"0123456789", &[("ETag", "\"v1\"")])).await;
    let link = world.url(HUB, "/folder/a%20b.safetensors");

    let file = world
        .downloads()
        .metadata(&format!("{link}#top"), None)
        .await
        .unwrap();

    assert_eq!(
        file,
        RemoteFile {
            source: LoraSource::Url { url: link },
            resource_key: None,
            name: Some("a b.safetensors".to_owned()),
            size_bytes: Some(10),
            revision: Some("v1".to_owned()),
            md5: None,
            sha256: None,
        }
    );
    let [seen] = &world.seen()[..] else {
        panic!("one question")
    };
    assert_eq!(seen.header("range"), Some("bytes=0-0"));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("cookie"), None);
    assert!(seen.header("user-agent").unwrap().starts_with("atelier/"));
}

#[tokio::test]
async fn a_large_file_of_a_hub_is_known_by_what_the_hub_says() {
    let world = World::new(|seen| match seen.host.as_str() {
        HUB => {
            let store = format!("https://store.test:{}/xet/0f?Signature=s", port(seen));
            reply(
                "302 Found",
                &[
                    ("Location", &store),
                    ("X-Linked-ETag", &format!("\"{DIGEST}\"")),
                    ("X-Linked-Size", "10"),
                ],
                b"",
            )
        }
        _ => serve(
            seen,
            b"0123456789",
            &[
                ("ETag", "\"storage\""),
                ("Content-Disposition", "inline; filename=\"c.safetensors\""),
            ],
        ),
    })
    .await;

    let file = metadata(&world, "/a/b/resolve/main/d.safetensors")
        .await
        .unwrap();

    assert_eq!(file.sha256.unwrap().to_string(), DIGEST);
    assert_eq!(file.revision.as_deref(), Some(DIGEST));
    assert_eq!(file.size_bytes, Some(10));
    assert_eq!(file.name.as_deref(), Some("c.safetensors"));
    let LoraSource::Url { url } = file.source else {
        panic!("an address")
    };
    assert!(url.starts_with("https://hub.test"), "{url}");
}

fn port(seen: &Seen) -> &str {
    seen.header("host").unwrap().split_once(':').unwrap().1
}

#[tokio::test]
async fn only_the_host_of_the_link_is_believed_what_it_says_of_digests() {
    let world = World::new(|seen| match seen.host.as_str() {
        HUB => redirect(&format!("https://{STORE}:{}/x", port(seen))),
        _ => serve(
            seen,
            b"0123456789",
            &[
                ("X-Linked-ETag", &format!("\"{DIGEST}\"")),
                ("X-Linked-Size", "11"),
            ],
        ),
    })
    .await;

    let file = metadata(&world, "/a.safetensors").await.unwrap();

    assert_eq!((file.sha256, file.size_bytes), (None, Some(10)));
}

#[tokio::test]
async fn a_host_that_knows_no_ranges_is_understood() {
    let file = described(|_| {
        let headers = [("Content-Length", "5000000000"), ("ETag", "W/\"weak\"")];
        vec![Step::Send(head("200 OK", &headers)), Step::Hang]
    })
    .await
    .unwrap();

    assert_eq!(
        (file.size_bytes, file.revision),
        (Some(5_000_000_000), None)
    );
}

#[tokio::test]
async fn an_endless_answer_is_not_read() {
    let file = described(|_| {
        let head = head("200 OK", &[("Content-Type", "application/octet-stream")]);
        vec![Step::Send(head), Step::Forever(vec![b'x'; 65_536])]
    })
    .await
    .unwrap();

    assert_eq!(file.size_bytes, None);
}

#[tokio::test]
async fn an_address_that_ends_in_no_name_gives_none() {
    let world = World::new(|seen| serve(seen, b"0123456789", &[])).await;

    let file = metadata(&world, "/api/download/models/12").await.unwrap();

    assert_eq!(file.name, None);
}

#[tokio::test]
async fn statuses_become_what_a_person_can_do() {
    type Check = fn(&RemoteError) -> bool;
    let unavailable: Check = |error| matches!(error, RemoteError::Unavailable { .. });
    let refused: Check = |error| matches!(error, RemoteError::Refused(_));
    let not_found: Check = |error| matches!(error, RemoteError::NotFound(_));
    let unauthorized: Check = |error| matches!(error, RemoteError::Unauthorized(_));
    let backend: Check = |error| matches!(error, RemoteError::Backend(_));
    for (status, right) in [
        ("401 Unauthorized", unauthorized),
        ("403 Forbidden", unauthorized),
        ("404 Not Found", not_found),
        ("410 Gone", not_found),
        ("400 Bad Request", refused),
        ("451 Unavailable For Legal Reasons", refused),
        ("408 Request Timeout", unavailable),
        ("429 Too Many Requests", unavailable),
        ("500 Internal Server Error", unavailable),
        ("503 Service Unavailable", unavailable),
        ("204 No Content", backend),
        ("304 Not Modified", backend),
    ] {
        let error = described(move |_| reply(status, &[], b"a secret text"))
            .await
            .unwrap_err();

        assert!(right(&error), "{status}: {error:?}");
        assert!(!said(&error).contains("secret"), "{}", said(&error));
    }
}

#[tokio::test]
async fn a_wish_to_be_left_alone_is_told_on() {
    let error = described(|_| reply("429 Too Many Requests", &[("Retry-After", "7")], b""))
        .await
        .unwrap_err();

    let RemoteError::Unavailable { retry_after, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn advice_depends_on_whether_a_token_was_sent() {
    let world = World::new(|_| reply("403 Forbidden", &[], b"")).await;
    let link = world.url(HUB, "/a.safetensors");

    let without = world.downloads().metadata(&link, None).await.unwrap_err();
    let with = world
        .downloads()
        .metadata(&link, token())
        .await
        .unwrap_err();

    assert!(without.to_string().contains("send a token"), "{without}");
    assert!(
        with.to_string().contains("the token that was sent"),
        "{with}"
    );
    assert!(!said(&with).contains("very-secret"), "{}", said(&with));
}

#[tokio::test]
async fn a_login_page_asks_for_a_token() {
    let world = World::new(|seen| match seen.path.as_str() {
        "/login" => reply("200 OK", &[("Content-Type", "text/html")], b"<html>"),
        _ => redirect("/login"),
    })
    .await;

    let error = metadata(&world, "/api/download/models/1")
        .await
        .unwrap_err();

    assert!(matches!(error, RemoteError::Unauthorized(_)), "{error:?}");
}

#[tokio::test]
async fn a_page_is_no_file() {
    for kind in [
        "text/html",
        "Text/HTML; charset=utf-8",
        "application/xhtml+xml",
    ] {
        let error = described(move |_| reply("200 OK", &[("Content-Type", kind)], b"<html>"))
            .await
            .unwrap_err();

        assert!(matches!(error, RemoteError::Refused(_)), "{error:?}");
        assert!(error.to_string().contains("a page of hub.test"), "{error}");
    }
}

#[tokio::test]
async fn an_empty_file_is_refused() {
    for script in [
        |seen: &Seen| serve(seen, b"", &[]),
        |_: &Seen| reply("200 OK", &[], b""),
    ] {
        let error = described(script).await.unwrap_err();
        assert!(error.to_string().contains("empty"), "{error:?}");
    }
}

#[tokio::test]
async fn bytes_that_were_compressed_unasked_are_refused() {
    let error = described(|_| reply("200 OK", &[("Content-Encoding", "gzip")], b"\x1f\x8b"))
        .await
        .unwrap_err();

    assert!(matches!(error, RemoteError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("compresses"), "{error}");
}

#[tokio::test]
async fn answers_that_contradict_themselves_make_no_sense() {
    for headers in [
        [("Content-Range", "bytes 5-5/10"), ("X-A", "")],
        [("Content-Range", "bytes 0-10/10"), ("X-A", "")],
        [("Content-Type", "multipart/byteranges"), ("X-A", "")],
        [("Content-Range", "bytes 0-0/10"), ("X-Linked-Size", "11")],
    ] {
        let error = described(move |_| reply("206 Partial Content", &headers, b"0"))
            .await
            .unwrap_err();
        assert!(
            matches!(error, RemoteError::Backend(_)),
            "{headers:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn headers_without_end_are_given_up() {
    let error = described(|_| {
        vec![
            Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
            Step::Forever(format!("X-Filler: {}\r\n", "x".repeat(1_000)).into_bytes()),
        ]
    })
    .await
    .unwrap_err();

    assert!(
        matches!(error, RemoteError::Unavailable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_given_up() {
    let world = World::new(|_| vec![Step::Hang]).await;
    let impatient = downloads(WebOptions {
        answer_timeout: Duration::from_millis(100),
        ..world.options()
    });

    let error = impatient
        .metadata(&world.url(HUB, "/a.safetensors"), None)
        .await
        .unwrap_err();

    assert!(
        said(&error).contains("no answer began within 100 ms"),
        "{error:?}"
    );
    world.one_is_gone().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_not_trusted() {
    let world = World::new(|seen| serve(seen, b"0123456789", &[])).await;
    let distrustful = downloads(WebOptions {
        root_certificates: None,
        ..world.options()
    });

    let error = distrustful
        .metadata(&world.url(HUB, "/a.safetensors?size=full"), token())
        .await
        .unwrap_err();

    assert!(
        matches!(error, RemoteError::Unavailable { .. }),
        "{error:?}"
    );
    assert!(!said(&error).contains("size=full"), "{}", said(&error));
    assert!(world.seen().is_empty());
}
