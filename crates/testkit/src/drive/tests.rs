use futures_util::FutureExt as _;

use super::*;

const ID: &str = "1AbCdEfGhIjK";

fn content() -> Vec<u8> {
    (0..5_000_u32).map(|at| at.to_le_bytes()[0]).collect()
}

async fn read(reader: &mut RemoteReader) -> Vec<u8> {
    let mut received = Vec::new();
    while let Some(Ok(chunk)) = reader.bytes.next().await {
        received.extend(chunk);
    }
    received
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke_off() {
    let drive = FakeRemote::drive();
    drive.put(ID, "a.safetensors", content());
    drive.break_next_download_at(ID, 3_000);
    let file = drive.metadata(ID, None).await.unwrap();

    let mut received = Vec::new();
    for _attempt in 0..2 {
        let offset = received.len() as u64;
        let mut reader = drive.download(&file, offset, None).await.unwrap();
        assert_eq!(reader.offset, offset);
        received.extend(read(&mut reader).await);
    }

    assert_eq!(received, content());
    assert_eq!(
        drive.downloads(),
        [(ID.to_owned(), 0), (ID.to_owned(), 3_000)]
    );
}

#[tokio::test]
async fn a_file_without_ranges_begins_at_its_first_byte() {
    let web = FakeRemote::web();
    let address = "https://files.example/a.safetensors";
    web.put(address, "a.safetensors", content());
    web.forget_ranges(address);
    web.tell(address, |file| file.size_bytes = None);
    let file = web.metadata(address, None).await.unwrap();

    let mut reader = web.download(&file, 1_000, None).await.unwrap();

    assert_eq!((reader.offset, reader.size_bytes), (0, None));
    assert_eq!(read(&mut reader).await, content());
}

#[tokio::test]
async fn a_changed_file_is_not_mixed_with_the_old_one() {
    let drive = FakeRemote::drive();
    drive.put(ID, "a.safetensors", content());
    let file = drive.metadata(ID, None).await.unwrap();

    drive.change(ID, "other bytes");

    let refused = drive.download(&file, 100, None).await;
    assert!(matches!(refused, Err(RemoteError::Changed)));
    let file = drive.metadata(ID, None).await.unwrap();
    assert_eq!(file.size_bytes, Some(11));
}

#[tokio::test]
async fn a_file_shows_itself_to_its_token_alone() {
    let drive = FakeRemote::drive();
    drive.put(ID, "a.safetensors", content());
    drive.want_token(ID, "theirs");

    for token in [None, RemoteToken::parse("other")] {
        let refused = drive.metadata(ID, token).await;
        assert!(matches!(refused, Err(RemoteError::NotFound(_))));
    }
    drive
        .metadata(ID, RemoteToken::parse("theirs"))
        .await
        .unwrap();
}

#[tokio::test]
async fn held_bytes_come_after_their_release() {
    let drive = FakeRemote::drive();
    drive.put(ID, "a.safetensors", content());
    drive.hold_downloads_at(CHUNK_BYTES as u64);
    let file = drive.metadata(ID, None).await.unwrap();
    let mut reader = drive.download(&file, 0, None).await.unwrap();

    let first = reader.bytes.next().await.unwrap().unwrap();
    assert_eq!(first.len(), CHUNK_BYTES);
    assert!(reader.bytes.next().now_or_never().is_none());
    drive.release();

    assert_eq!(read(&mut reader).await, content()[CHUNK_BYTES..]);
}

#[tokio::test]
async fn outages_and_scripted_errors_are_what_a_caller_gets() {
    let drive = FakeRemote::drive();
    drive.put(ID, "a.safetensors", content());
    drive.outage().begin();
    let gone = drive.metadata(ID, None).await;
    assert!(matches!(gone, Err(RemoteError::Unavailable { .. })));
    drive.outage().end();

    drive.fail_next_metadata(RemoteError::Refused("in the trash".to_owned()));
    let refused = drive.metadata(ID, None).await;
    assert!(matches!(refused, Err(RemoteError::Refused(text)) if text == "in the trash"));

    let file = drive.metadata(ID, None).await.unwrap();
    drive.fail_next_download(RemoteError::Unauthorized("revoked".to_owned()));
    let refused = drive.download(&file, 0, None).await;
    assert!(matches!(refused, Err(RemoteError::Unauthorized(_))));
    assert_eq!(drive.metadata_count(), 2);
    drive.remove(ID);
    let gone = drive.metadata(ID, None).await;
    assert!(matches!(gone, Err(RemoteError::NotFound(_))));
}
