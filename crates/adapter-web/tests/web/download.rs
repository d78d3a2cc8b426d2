use std::time::Duration;

use atelier_domain::lora::LoraSource;
use atelier_domain::ports::{RemoteError, RemoteFile, RemoteReader, RemoteSource};
use atelier_web::{WebDownloads, WebOptions};
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::support::{
    HUB, PATIENCE, STORE, Seen, Step, World, downloads, drain, file_at, head, redirect, reply,
    said, serve, token,
};

const FILE: &[u8] = b"0123456789";

/// A file of ten bytes, revision `v1`.
fn known(world: &World) -> RemoteFile {
    RemoteFile {
        size_bytes: Some(10),
        revision: Some("v1".to_owned()),
        ..file_at(&world.url(HUB, "/a.safetensors"))
    }
}

async fn begun(
    offset: u64,
    script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
) -> Result<RemoteReader, RemoteError> {
    let world = World::new(script).await;
    world
        .downloads()
        .download(&known(&world), offset, None)
        .await
}

#[tokio::test]
async fn a_file_is_downloaded_from_its_beginning() {
    let world = World::new(|seen| serve(seen, FILE, &[("ETag", "\"v1\"")])).await;

    let reader = world.downloads().download(&known(&world), 0, token()).await;

    let reader = reader.unwrap();
    assert_eq!((reader.offset, reader.size_bytes), (0, Some(10)));
    let (bytes, error) = drain(reader).await;
    assert!(bytes == FILE && error.is_none(), "{error:?}");
    let seen = &world.seen()[0];
    assert_eq!(seen.header("range"), None);
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!(seen.header("authorization"), Some("Bearer very-secret"));
}

#[tokio::test]
async fn a_download_goes_on_in_the_middle_by_way_of_the_link() {
    let world = World::new(|seen| match seen.host.as_str() {
        HUB => {
            let port = seen.header("host").unwrap().split_once(':').unwrap().1;
            redirect(&format!("https://{STORE}:{port}/a?Signature=new"))
        }
        _ => serve(seen, FILE, &[("ETag", "\"v1\"")]),
    })
    .await;

    let reader = world.downloads().download(&known(&world), 4, None).await;

    let reader = reader.unwrap();
    assert_eq!((reader.offset, reader.size_bytes), (4, Some(10)));
    assert_eq!(drain(reader).await.0, b"456789");
    assert_eq!(
        world.visits(),
        ["hub.test/a.safetensors", "store.test/a?Signature=new"]
    );
    assert_eq!(world.seen()[1].header("range"), Some("bytes=4-"));
}

#[tokio::test]
async fn a_host_that_knows_no_ranges_begins_at_the_beginning() {
    let reader = begun(4, |_| reply("200 OK", &[], FILE)).await.unwrap();

    assert_eq!((reader.offset, reader.size_bytes), (0, Some(10)));
    assert_eq!(drain(reader).await.0, FILE);
}

#[tokio::test]
async fn nothing_comes_after_the_end() {
    let reader = begun(10, |seen| serve(seen, FILE, &[])).await.unwrap();

    assert_eq!((reader.offset, reader.size_bytes), (10, Some(10)));
    let (bytes, error) = drain(reader).await;
    assert!(bytes.is_empty() && error.is_none(), "{error:?}");
}

#[tokio::test]
async fn other_bytes_than_those_that_were_described_are_noticed_at_once() {
    for script in [
        |seen: &Seen| serve(seen, FILE, &[("ETag", "\"v2\"")]),
        |seen: &Seen| {
            serve(
                seen,
                FILE,
                &[("X-Linked-ETag", "\"v2\""), ("ETag", "\"v1\"")],
            )
        },
        |seen: &Seen| serve(seen, b"0123456789a", &[]),
        |seen: &Seen| serve(seen, b"0123", &[]),
        |_: &Seen| reply("200 OK", &[("ETag", "\"v2\"")], FILE),
        |_: &Seen| reply("200 OK", &[], b"0123456789a"),
        |_: &Seen| reply("416 a", &[("Content-Range", "bytes */4")], b""),
        |_: &Seen| reply("416 a", &[], b""),
    ] {
        let error = begun(5, script).await.unwrap_err();
        assert!(matches!(error, RemoteError::Changed), "{error:?}");
    }
}

#[tokio::test]
async fn a_revision_that_is_no_longer_told_is_not_missed() {
    let reader = begun(5, |seen| serve(seen, FILE, &[("ETag", "W/\"v2\"")])).await;

    assert_eq!(drain(reader.unwrap()).await.0, b"56789");
}

#[tokio::test]
async fn a_part_that_was_not_asked_for_makes_no_sense() {
    for (offset, told, body) in [
        (5, "bytes 4-9/10", &b"456789"[..]),
        (5, "bytes 6-9/10", b"6789"),
        (5, "bytes 5-9/10", b"5678"),
        (5, "bytes 5-12/10", b"56789012"),
        (5, "bytes 5-4/10", b"0"),
        (5, "pages 5-9/10", b"56789"),
        (5, "", b"56789"),
        (0, "bytes 0-9/10", FILE),
    ] {
        let outcome = begun(offset, move |_| {
            reply("206 Partial Content", &[("Content-Range", told)], body)
        })
        .await;

        let error = outcome.unwrap_err();
        assert!(
            matches!(error, RemoteError::Backend(_)),
            "{told}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_part_that_stops_before_the_end_is_to_be_gone_on_from() {
    let reader = begun(5, |_| {
        let told = [("Content-Range", "bytes 5-7/10")];
        reply("206 Partial Content", &told, b"567")
    })
    .await;

    let (bytes, error) = drain(reader.unwrap()).await;
    assert_eq!(bytes, b"567");
    assert!(
        matches!(error, Some(RemoteError::Unavailable { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_end() {
    for headers in [
        &[("Content-Length", "10"), ("ETag", "\"v1\"")][..],
        &[("Transfer-Encoding", "chunked")],
        // Without a length, only what is known of the file tells.
        &[],
    ] {
        let headers = headers.to_vec();
        let reader = begun(0, move |_| {
            let mut bytes = head("200 OK", &headers);
            let chunked = headers.contains(&("Transfer-Encoding", "chunked"));
            bytes.extend_from_slice(if chunked { b"4\r\n0123\r\n" } else { b"0123" });
            vec![Step::Send(bytes)]
        })
        .await;

        let (bytes, error) = drain(reader.unwrap()).await;
        assert_eq!(bytes, b"0123");
        assert!(
            matches!(error, Some(RemoteError::Unavailable { .. })),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_where_the_file_ends() {
    let endless = |status: &'static str, told: &'static [(&str, &str)]| {
        move |_: &Seen| {
            vec![
                Step::Send(head(status, told)),
                Step::Forever(b"3\r\nabc\r\n".to_vec()),
            ]
        }
    };
    let unannounced = endless("200 OK", &[("Transfer-Encoding", "chunked")]);
    let announced = endless(
        "206 Partial Content",
        &[
            ("Transfer-Encoding", "chunked"),
            ("Content-Range", "bytes 5-9/10"),
        ],
    );

    let (bytes, error) = drain(begun(0, unannounced).await.unwrap()).await;
    assert!(bytes.len() <= 10, "{} bytes", bytes.len());
    assert!(matches!(error, Some(RemoteError::Changed)), "{error:?}");

    let (bytes, error) = drain(begun(5, announced).await.unwrap()).await;
    assert!(bytes.len() <= 5, "{} bytes", bytes.len());
    assert!(matches!(error, Some(RemoteError::Backend(_))), "{error:?}");
}

#[tokio::test]
async fn more_than_the_announced_length_is_never_read() {
    let reader = begun(0, |_| {
        let head = head("200 OK", &[("Content-Length", "10")]);
        vec![Step::Send(head), Step::Forever(FILE.to_vec())]
    })
    .await;

    let (bytes, error) = drain(reader.unwrap()).await;
    assert!(bytes == FILE && error.is_none(), "{error:?}");
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let world = World::new(|_| {
        let mut bytes = head("200 OK", &[("Content-Length", "10")]);
        bytes.extend_from_slice(b"0123");
        vec![Step::Send(bytes), Step::Hang]
    })
    .await;
    let impatient = downloads(WebOptions {
        stall_timeout: Duration::from_millis(100),
        ..world.options()
    });

    let reader = impatient.download(&known(&world), 0, None).await.unwrap();

    let (bytes, error) = drain(reader).await;
    assert_eq!(bytes, b"0123");
    assert!(said(&error.unwrap()).contains("no byte came for 100 ms"));
    world.one_is_gone().await;
}

#[tokio::test]
async fn a_page_or_packed_bytes_instead_of_the_file_are_refused() {
    for header in [
        ("Content-Type", "text/html"),
        ("Content-Encoding", "gzip"),
        ("Content-Encoding", "br"),
    ] {
        let error = begun(0, move |_| reply("200 OK", &[header], FILE)).await;
        assert!(
            matches!(error, Err(RemoteError::Refused(_))),
            "{header:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_file_of_somewhere_else_is_not_looked_for() {
    let world = World::new(|seen| serve(seen, FILE, &[])).await;
    let drive = RemoteFile {
        source: LoraSource::GoogleDrive {
            file_id: "x".to_owned(),
        },
        ..known(&world)
    };

    let error = world.downloads().download(&drive, 0, None).await;

    assert!(matches!(error, Err(RemoteError::Invalid(_))), "{error:?}");
}

#[tokio::test]
async fn whoever_stops_asking_or_reading_ends_the_request() {
    let world = World::new(|seen| {
        let mut bytes = head("200 OK", &[("Content-Length", "10")]);
        bytes.extend_from_slice(b"0123");
        if seen.path == "/silent" {
            bytes.clear();
        }
        vec![Step::Send(bytes), Step::Hang]
    })
    .await;
    let downloads = world.downloads();

    let silent = world.url(HUB, "/silent");
    let asking = downloads.metadata(&silent, None);
    assert!(timeout(Duration::from_millis(300), asking).await.is_err());
    world.one_is_gone().await;

    let reader = downloads.download(&known(&world), 0, None).await.unwrap();
    drop(reader);
    world.one_is_gone().await;
}

#[test]
fn connections_live_on_the_runtime_for_network_io() {
    let io = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let world = io.block_on(World::new(|seen| serve(seen, FILE, &[])));
    let downloads = WebDownloads::new(world.options(), io.handle().clone()).unwrap();
    let file = known(&world);

    // Threads with neither sockets nor timers, each gone before the next comes.
    let on_its_own = || Builder::new_current_thread().build().unwrap();
    let link = world.url(HUB, "/a.safetensors");
    let described = on_its_own().block_on(downloads.metadata(&link, None));
    let reader = on_its_own().block_on(downloads.download(&file, 0, None));
    let bytes = on_its_own().block_on(async {
        let mut reader = reader.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = futures_util::StreamExt::next(&mut reader.bytes).await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        bytes
    });

    assert_eq!(described.unwrap().size_bytes, Some(10));
    assert_eq!(bytes, FILE);
    io.shutdown_timeout(PATIENCE);
}
