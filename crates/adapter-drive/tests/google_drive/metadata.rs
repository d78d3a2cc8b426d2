//! What is told of a file, and which files are refused.

use atelier_domain::lora::LoraSource;
use atelier_domain::ports::{RemoteError, RemoteFile, RemoteSource as _};
use atelier_testkit::drive_double::{Content, DriveFile, Endpoint, Fault};
use serde_json::{Value, json};

use crate::site::{ID, SIZE, Site, content};

const SHORTCUT: &str = "1ShortcutShortcutShortcut0000001";

fn sample(text: &str) -> Fault {
    Fault::json(200, &serde_json::from_str(text).unwrap())
}

fn id_of(file: &RemoteFile) -> &str {
    match &file.source {
        LoraSource::GoogleDrive { file_id } => file_id,
        LoraSource::Upload | LoraSource::Url { .. } => "not on Drive",
    }
}

fn refused_with(result: &Result<RemoteFile, RemoteError>, word: &str) {
    assert!(
        matches!(result, Err(RemoteError::Refused(text)) if text.contains(word)),
        "{word}: {result:?}"
    );
}

#[tokio::test]
async fn a_files_metadata_are_read() {
    let site = Site::new();
    let file = site.drive().metadata(ID, None).await.unwrap();

    assert_eq!(id_of(&file), ID);
    assert_eq!(file.name.as_deref(), Some("style.safetensors"));
    assert_eq!(file.size_bytes, Some(SIZE));
    assert_eq!(file.md5, Some(content().md5()));
    assert_eq!(file.sha256.unwrap().to_string(), content().sha256());
    assert_eq!(file.revision.as_deref(), Some("revision-0"));
    assert_eq!(file.resource_key, None);
}

#[tokio::test]
async fn the_recorded_answer_is_understood() {
    let site = Site::new();
    let recorded = sample(include_str!("../samples/files_get_safetensors.json"));
    site.double.fail_next(Endpoint::Metadata, recorded);

    let file = site.drive().metadata(ID, None).await.unwrap();

    assert_eq!(file.size_bytes, Some(228_454_784));
    assert_eq!(
        file.md5.as_deref(),
        Some("0cc175b9c0f1b6a831c399e269772661")
    );
    assert_eq!(file.sha256.unwrap().first_digits(8), "ca978112");
    assert_eq!(file.revision.as_deref(), Some("0BwTESTONLY"));
    assert_eq!(file.resource_key.as_deref(), Some("0-AbCdEfGhIjKlMnOp"));
}

#[tokio::test]
async fn what_is_not_told_is_not_known() {
    let site = Site::new();
    let drive = site.drive();
    site.double.edit(ID, |file| {
        file.sha256 = None;
        file.revision = None;
    });
    let file = drive.metadata(ID, None).await.unwrap();
    assert_eq!(file.sha256, None);
    assert_eq!(file.revision, file.md5);

    site.double.edit(ID, |file| {
        file.md5 = None;
        file.tells_size = false;
    });
    let file = drive.metadata(ID, None).await.unwrap();
    assert_eq!(
        (file.md5, file.revision, file.size_bytes),
        (None, None, None)
    );
}

#[tokio::test]
async fn files_on_shared_drives_are_found() {
    let site = Site::new();
    site.double.edit(ID, |file| {
        file.drive_id = Some("0AAbCdEfGhIjKUk9PVA".to_owned());
    });

    let drive = site.drive();
    let file = drive.metadata(ID, None).await.unwrap();

    drive.download(&file, 0, None).await.unwrap();
}

#[tokio::test]
async fn a_shortcut_is_followed_once() {
    let site = Site::new();
    let drive = site.drive();
    site.double.put(DriveFile::shortcut(SHORTCUT, ID));
    let file = drive.metadata(SHORTCUT, None).await.unwrap();
    assert_eq!(id_of(&file), ID);
    assert_eq!(file.name.as_deref(), Some("style.safetensors"));

    let twice = "1ShortcutShortcutShortcut0000002";
    site.double.put(DriveFile::shortcut(twice, SHORTCUT));
    refused_with(&drive.metadata(twice, None).await, "another shortcut");

    let nowhere = "1ShortcutShortcutShortcut0000003";
    site.double
        .put(DriveFile::shortcut(nowhere, "1NobodyHasThis"));
    let missing = drive.metadata(nowhere, None).await;
    assert!(
        matches!(&missing, Err(RemoteError::NotFound(text)) if text.starts_with("behind this shortcut")),
        "{missing:?}"
    );

    site.double.edit(SHORTCUT, |file| file.trashed = true);
    refused_with(&drive.metadata(SHORTCUT, None).await, "trash");
}

#[tokio::test]
async fn a_shortcut_brings_the_key_of_its_target() {
    let site = Site::new();
    let recorded = sample(include_str!("../samples/files_get_shortcut.json"));
    site.double.fail_next(Endpoint::Metadata, recorded);
    site.double.edit(ID, |file| {
        file.resource_key = Some("0-AbCdEfGhIjKlMnOp".to_owned());
    });
    let drive = site.drive();

    let file = drive.metadata(SHORTCUT, None).await.unwrap();

    assert_eq!(file.resource_key.as_deref(), Some("0-AbCdEfGhIjKlMnOp"));
    drive.download(&file, 5, None).await.unwrap();
}

#[tokio::test]
async fn a_resource_key_is_sent_with_every_request() {
    let site = Site::new();
    site.double
        .edit(ID, |file| file.resource_key = Some("0-Key_1".to_owned()));
    let drive = site.drive();
    let without = drive.metadata(ID, None).await;
    assert!(matches!(without, Err(RemoteError::NotFound(_))));

    let link = format!("https://drive.google.com/file/d/{ID}/view?resourcekey=0-Key_1");
    let file = drive.metadata(&link, None).await.unwrap();
    assert_eq!(file.resource_key.as_deref(), Some("0-Key_1"));
    drive.download(&file, 0, None).await.unwrap();
    drive.download(&file, 7, None).await.unwrap();

    let keyed = site.double.requests();
    let keyed = keyed.iter().filter(|request| {
        request.resource_keys.as_deref() == Some(format!("{ID}/0-Key_1").as_str())
    });
    assert_eq!(keyed.count(), 4);
}

#[tokio::test]
async fn what_cannot_be_imported_is_refused_with_the_reason() {
    let site = Site::new();
    let drive = site.drive();
    let other = "1OtherOtherOther";

    site.double.put(DriveFile::folder(other));
    refused_with(&drive.metadata(other, None).await, "folder");
    site.double.put(DriveFile::document(other));
    refused_with(
        &drive.metadata(other, None).await,
        "document of Google's own",
    );
    let mut page = DriveFile::blob(other, "page.html", Content::bytes("<html>"));
    page.mime_type = "text/html".to_owned();
    site.double.put(page);
    refused_with(&drive.metadata(other, None).await, "web page");
    site.double.edit(ID, |file| file.can_download = false);
    refused_with(&drive.metadata(ID, None).await, "allow downloads");
    site.double.edit(ID, |file| file.trashed = true);
    refused_with(&drive.metadata(ID, None).await, "trash");

    let recorded = sample(include_str!("../samples/files_get_google_doc_no_size.json"));
    site.double.fail_next(Endpoint::Metadata, recorded);
    refused_with(&drive.metadata(ID, None).await, "document of Google's own");
}

#[tokio::test]
async fn what_names_no_file_is_never_asked_for() {
    let site = Site::new();
    let drive = site.drive();

    for given in [
        "",
        "../../etc/passwd",
        "https://evil.example/file/d/1AbCdEfGhIjK",
    ] {
        let refused = drive.metadata(given, None).await;
        assert!(matches!(refused, Err(RemoteError::Invalid(_))), "{given}");
    }
    let folder = "https://drive.google.com/drive/folders/1AbCdEfGhIjK";
    refused_with(&drive.metadata(folder, None).await, "folder");
    assert!(site.double.requests().is_empty());
}

#[tokio::test]
async fn metadata_that_make_no_sense_are_not_believed() {
    let whole = json!({
        "id": ID, "name": "a", "mimeType": "application/octet-stream", "size": "7",
        "md5Checksum": "0cc175b9c0f1b6a831c399e269772661",
    });
    let with = |name: &str, value: Value| {
        let mut body = whole.clone();
        body[name] = value;
        Fault::json(200, &body)
    };
    for fault in [
        with("id", json!("1AnotherAnother")),
        with("size", json!("-7")),
        with("size", json!("many")),
        with("md5Checksum", json!("../../x")),
        with("sha256Checksum", json!("ca97")),
        with("mimeType", json!("application/vnd.google-apps.shortcut")),
        with("mimeType", Value::Null),
        Fault::page(200),
        Fault::empty(204),
        Fault::json(200, &json!([])),
    ] {
        let site = Site::new();
        site.double.fail_next(Endpoint::Metadata, fault.clone());

        let found = site.drive().metadata(ID, None).await;

        assert!(
            matches!(found, Err(RemoteError::Backend(_))),
            "{fault:?}: {found:?}"
        );
    }
}
