//! Bytes: whole, resumed, cut, changed.

use std::time::Duration;

use atelier_domain::lora::LoraSource;
use atelier_domain::ports::{RemoteError, RemoteFile, RemoteSource as _};
use atelier_drive::DriveOptions;
use atelier_testkit::drive_double::{Content, DriveFile, Endpoint, Fault};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::site::{ID, SIZE, Site, all, chain, content, lent, read, size_of};

#[tokio::test]
async fn a_file_comes_as_it_is() {
    let site = Site::new();
    let drive = site.drive();
    let file = drive.metadata(ID, None).await.unwrap();

    let mut reader = drive.download(&file, 0, None).await.unwrap();

    assert_eq!((reader.offset, reader.size_bytes), (0, Some(SIZE)));
    let (received, error) = read(&mut reader).await;
    assert!(error.is_none() && received == all(&content()));
    let request = site.double.requests().last().unwrap().clone();
    assert_eq!(request.range, None);
    assert_eq!(request.accept_encoding.as_deref(), Some("identity"));
    assert_eq!(request.query, "supportsAllDrives=true&alt=media");
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was_cut() {
    let site = Site::new();
    let drive = site.drive();
    let file = drive.metadata(ID, None).await.unwrap();
    site.double
        .fail_next(Endpoint::Download, Fault::CutAfter(100_000));
    site.double
        .fail_next(Endpoint::Download, Fault::CutAfter(100_000));

    let mut received = Vec::new();
    let mut cuts = 0;
    while (received.len() as u64) < size_of(&file) {
        let offset = received.len() as u64;
        let mut reader = drive.download(&file, offset, None).await.unwrap();
        assert_eq!((reader.offset, reader.size_bytes), (offset, Some(SIZE)));
        let (more, error) = read(&mut reader).await;
        received.extend(more);
        if let Some(error) = error {
            cuts += 1;
            assert!(
                matches!(error, RemoteError::Unavailable { .. }),
                "{error:?}"
            );
        }
    }

    assert!(received == all(&content()));
    assert_eq!(cuts, 2);
    let requests = site.double.requests();
    let resumed = requests.iter().filter(|request| request.range.is_some());
    assert_eq!(resumed.count(), 2);
}

#[tokio::test]
async fn the_end_of_a_file_of_gibibytes_can_be_resumed() {
    let site = Site::new();
    let huge = Content::patterned("head", 5 << 30);
    site.double
        .put(DriveFile::blob(ID, "huge.safetensors", huge.clone()));
    let drive = site.drive();
    let file = drive.metadata(ID, None).await.unwrap();
    assert_eq!((file.size_bytes, &file.md5), (Some(5 << 30), &None));
    let offset = (5 << 30) - 1_000;

    let mut reader = drive.download(&file, offset, None).await.unwrap();

    assert_eq!((reader.offset, reader.size_bytes), (offset, Some(5 << 30)));
    let (received, error) = read(&mut reader).await;
    assert!(error.is_none() && received == huge.read(offset, 1_000));
}

#[tokio::test]
async fn a_file_that_was_changed_is_not_resumed() {
    let site = Site::new();
    let drive = site.drive();
    let file = drive.metadata(ID, None).await.unwrap();
    let content = Content::patterned("other", SIZE);
    let fault = Fault::CutAndChange {
        after: 100_000,
        content: content.clone(),
    };
    site.double.fail_next(Endpoint::Download, fault);
    let mut reader = drive.download(&file, 0, None).await.unwrap();
    let (received, _cut) = read(&mut reader).await;

    let refused = drive.download(&file, received.len() as u64, None).await;

    assert!(matches!(refused, Err(RemoteError::Changed)));
    assert_eq!(site.double.count(Endpoint::Download), 1);
    let file = drive.metadata(ID, None).await.unwrap();
    let mut reader = drive.download(&file, 0, None).await.unwrap();
    let (received, error) = read(&mut reader).await;
    assert!(error.is_none() && received == all(&content));
}

#[tokio::test]
async fn a_change_shows_without_revisions_too() {
    let site = Site::new();
    let drive = site.drive();
    site.double.edit(ID, |file| file.revision = None);
    let file = drive.metadata(ID, None).await.unwrap();

    site.double.change(ID, Content::patterned("other", SIZE));
    let refused = drive.download(&file, 10, None).await;
    assert!(
        matches!(refused, Err(RemoteError::Changed)),
        "by its digest"
    );

    site.double.edit(ID, |file| {
        file.md5 = None;
        file.sha256 = None;
    });
    let file = drive.metadata(ID, None).await.unwrap();
    site.double
        .change(ID, Content::patterned("other", SIZE + 1));
    for offset in [0, 10] {
        let refused = drive.download(&file, offset, None).await;
        assert!(matches!(refused, Err(RemoteError::Changed)), "by its size");
    }
}

#[tokio::test]
async fn a_file_that_vanished_is_not_found() {
    let site = Site::new();
    let drive = site.drive();
    let file = drive.metadata(ID, None).await.unwrap();

    site.double.edit(ID, |file| file.trashed = true);
    let refused = drive.download(&file, 10, None).await;
    assert!(matches!(refused, Err(RemoteError::Refused(_))));
    site.double.remove(ID);
    for offset in [0, 10] {
        let refused = drive.download(&file, offset, None).await;
        assert!(matches!(refused, Err(RemoteError::NotFound(_))));
    }
}

#[tokio::test]
async fn without_ranges_it_begins_again() {
    let site = Site::new();
    let drive = site.drive();
    let file = drive.metadata(ID, None).await.unwrap();
    site.double
        .fail_next(Endpoint::Download, Fault::IgnoreRange);
    let mut ignored = drive.download(&file, 1_000, None).await.unwrap();
    assert_eq!((ignored.offset, ignored.size_bytes), (0, Some(SIZE)));
    assert!(read(&mut ignored).await.0 == all(&content()));

    let fault = Fault::api(416, "requestedRangeNotSatisfiable");
    site.double.fail_next(Endpoint::Download, fault);
    let mut refused = drive.download(&file, 1_000, None).await.unwrap();
    assert_eq!((refused.offset, refused.size_bytes), (0, Some(SIZE)));
    assert!(read(&mut refused).await.0 == all(&content()));
}

#[tokio::test]
async fn at_its_end_a_file_has_no_more_bytes() {
    let site = Site::new();
    let drive = site.drive();
    let file = drive.metadata(ID, None).await.unwrap();
    let mut reader = drive.download(&file, SIZE, None).await.unwrap();
    assert_eq!(reader.offset, SIZE);
    assert!(reader.bytes.next().await.is_none());
    assert_eq!(site.double.count(Endpoint::Download), 0);

    site.double
        .put(DriveFile::blob(ID, "empty", Content::bytes("")));
    let file = drive.metadata(ID, None).await.unwrap();
    let mut reader = drive.download(&file, 0, None).await.unwrap();
    assert_eq!(reader.size_bytes, Some(0));
    assert!(reader.bytes.next().await.is_none());
}

#[tokio::test]
async fn a_size_that_was_not_told_comes_with_the_bytes() {
    let site = Site::new();
    let drive = site.drive();
    site.double.edit(ID, |file| file.tells_size = false);
    let file = drive.metadata(ID, None).await.unwrap();
    assert_eq!(file.size_bytes, None);

    for offset in [0, 1_000] {
        let reader = drive.download(&file, offset, None).await.unwrap();
        assert_eq!((reader.offset, reader.size_bytes), (offset, Some(SIZE)));
    }
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_no_whole_file() {
    for offset in [0, 1_000] {
        let site = Site::new();
        let drive = site.drive();
        let file = drive.metadata(ID, None).await.unwrap();
        site.double.fail_next(Endpoint::Download, Fault::ShortBy(7));

        // Without a range, the length of the answer tells it beforehand.
        match drive.download(&file, offset, None).await {
            Err(RemoteError::Changed) => assert_eq!(offset, 0),
            Err(error) => panic!("{error:?}"),
            Ok(mut reader) => {
                let (received, error) = read(&mut reader).await;
                assert_eq!(received.len() as u64, SIZE - offset - 7);
                assert!(matches!(error, Some(RemoteError::Unavailable { .. })));
            }
        }
    }
}

#[tokio::test]
async fn a_stalled_download_ends() {
    let site = Site::new();
    site.double.accept_token("theirs");
    let drive = site.drive_with(DriveOptions {
        stall_timeout: Duration::from_millis(50),
        ..site.options()
    });
    let file = drive.metadata(ID, lent("theirs")).await.unwrap();
    site.double
        .fail_next(Endpoint::Download, Fault::StallAfter(70_000));
    let mut reader = drive.download(&file, 0, lent("theirs")).await.unwrap();

    let (received, error) = read(&mut reader).await;

    assert_eq!(received.len(), 70_000);
    let error = error.unwrap();
    assert!(matches!(error, RemoteError::Unavailable { .. }));
    assert!(chain(&error).contains("50 ms"), "{}", chain(&error));
    assert!(reader.bytes.next().await.is_none());
}

#[tokio::test]
async fn another_range_than_the_one_asked_for_is_not_taken() {
    for (range, is_changed) in [
        (format!("bytes 0-{}/{SIZE}", SIZE - 1), false),
        (format!("bytes 1001-{}/{SIZE}", SIZE - 1), false),
        (format!("bytes 1000-{SIZE}/{SIZE}"), false),
        (format!("bytes */{SIZE}"), false),
        ("nonsense".to_owned(), false),
        (format!("bytes 1000-{SIZE}/{}", SIZE + 1), true),
    ] {
        let site = Site::new();
        let drive = site.drive();
        let file = drive.metadata(ID, None).await.unwrap();
        site.double
            .fail_next(Endpoint::Download, Fault::ContentRange(range.clone()));

        let refused = drive.download(&file, 1_000, None).await.unwrap_err();

        assert_eq!(
            matches!(refused, RemoteError::Changed),
            is_changed,
            "{range}"
        );
        assert_eq!(
            matches!(refused, RemoteError::Backend(_)),
            !is_changed,
            "{range}"
        );
    }
}

#[tokio::test]
async fn pages_and_odd_answers_are_no_bytes() {
    let encoded = Fault::json(200, &json!({})).with_header("content-encoding", "gzip");
    for fault in [
        Fault::page(200),
        Fault::page(206),
        Fault::empty(204),
        encoded,
    ] {
        let site = Site::new();
        let drive = site.drive();
        let file = drive.metadata(ID, None).await.unwrap();
        site.double.fail_next(Endpoint::Download, fault.clone());

        let refused = drive.download(&file, 0, None).await;

        assert!(
            matches!(refused, Err(RemoteError::Backend(_))),
            "{fault:?}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn more_bytes_than_the_file_has_are_not_taken() {
    let site = Site::new();
    let drive = site.drive();
    let file = drive.metadata(ID, None).await.unwrap();
    let shown = format!("bytes 290000-290999/{SIZE}");
    let fault = Fault::Answer {
        status: 206,
        headers: vec![("content-range".to_owned(), shown)],
        body: "x".repeat(20_000),
    };
    site.double.fail_next(Endpoint::Download, fault);
    let mut reader = drive.download(&file, 290_000, None).await.unwrap();

    let (received, error) = read(&mut reader).await;

    assert!(received.len() <= 10_000);
    assert!(matches!(error, Some(RemoteError::Backend(_))));
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_is_renewed_for_the_rest() {
    let site = Site::new();
    let drive = site.drive();
    let file = drive.metadata(ID, None).await.unwrap();
    site.double
        .fail_next(Endpoint::Download, Fault::CutAfter(100_000));
    let mut reader = drive.download(&file, 0, None).await.unwrap();
    let (received, _cut) = read(&mut reader).await;
    site.double.revoke_access_tokens();

    let mut reader = drive
        .download(&file, received.len() as u64, None)
        .await
        .unwrap();

    let (rest, error) = read(&mut reader).await;
    assert!(error.is_none());
    assert!([received, rest].concat() == all(&content()));
}

#[tokio::test]
async fn what_lies_elsewhere_is_not_asked_of_drive() {
    let site = Site::new();
    let drive = site.drive();
    let file = drive.metadata(ID, None).await.unwrap();
    let asked = site.double.requests().len();
    for source in [
        LoraSource::Upload,
        LoraSource::Url {
            url: "https://files.example/a".to_owned(),
        },
        LoraSource::GoogleDrive {
            file_id: "../about".to_owned(),
        },
    ] {
        let elsewhere = RemoteFile {
            source,
            ..file.clone()
        };
        let refused = drive.download(&elsewhere, 0, None).await;
        assert!(matches!(refused, Err(RemoteError::Invalid(_))));
    }
    assert_eq!(site.double.requests().len(), asked);
}
