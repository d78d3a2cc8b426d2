//! Credentials for Google Drive, the server's and people's own: used, and told to nobody.

use atelier_testkit::drive_double::{DriveDouble, Endpoint, Fault};
use atelier_testkit::wait_until;
use atelier_tests_integration::client::{Client, id_of};
use atelier_tests_integration::imports::{
    self, DriveSite, begin, import_of, import_with_token, new_id, without_credentials,
};
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::traces::rows_of;
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{ATELIER, house};
use crate::lora_imports::link;

const STYLE: &str = "style.safetensors";

/// A token of somebody's own, which nobody else has ever seen.
fn own_token(drive: &DriveDouble) -> String {
    let token = format!("ya29.{}", new_id());
    drive.accept_token(&token);
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn somebodys_own_token_is_used_once_and_kept_nowhere() {
    let at = DriveSite::new(ATELIER).await;
    let setup = without_credentials(at.site.setup(), &at.drive).with("RUST_LOG", "debug");
    let server = setup.start();
    let client = server.client();
    let token = own_token(&at.drive);
    let file = LoraFile::of_size(2_000_000);
    let id = at.put(STYLE, &file);
    at.drive
        .edit(&id, |file| file.readers = Some(vec![token.clone()]));
    at.drive
        .fail_next(Endpoint::Download, Fault::StallAfter(1_000_000));
    let is_traceless = async || {
        let rows = rows_of(&at.site.database).await;
        assert!(rows.contains(&id), "the import is not in the rows");
        let hexadecimal = token.bytes().fold(String::new(), |digits, byte| {
            digits + &format!("{byte:02x}")
        });
        let printed = server.process.printed();
        assert!(
            printed.contains("DEBUG"),
            "the log is shorter than it may be"
        );
        for text in [rows, printed] {
            assert!(!text.contains(&token), "the token was kept");
            assert!(!text.contains(&hexadecimal), "the token was kept");
        }
    };

    let begun = import_with_token(&client, &link(&id), &token)
        .await
        .expect(202);
    let begun = id_of(&begun);
    wait_until("a download", imports::PATIENCE, async || {
        at.drive.count(Endpoint::Download) == 1
    })
    .await;
    is_traceless().await;
    client.delete(&format!("/loras/{begun}")).await.expect(204);
    let again = import_with_token(&client, &link(&id), &token)
        .await
        .expect(202);
    let lora = imports::ready(&client, &id_of(&again)).await;

    file.assert_is(&lora);
    is_traceless().await;
    let requests = at.drive.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.bearer.as_deref() == Some(&token)),
        "something else was sent than the token"
    );
    assert!(!lora.to_string().contains(&token));
    // Nobody gets on with what was theirs.
    let stranger = server.client();
    import_of(&stranger, &id)
        .await
        .expect_problem(503, "drive-not-configured");
    let wrong = import_with_token(&stranger, &id, "ya29.nobody-knows-this").await;
    let wrong = wrong.expect_problem(422, "source-unauthorized");
    assert!(wrong.to_string().contains("access token"), "{wrong}");
    assert!(!wrong.to_string().contains("nobody-knows"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_whose_token_went_with_its_server_fails_with_the_reason() {
    let at = DriveSite::new(ATELIER).await;
    let setup = without_credentials(at.site.setup(), &at.drive);
    let mut server = setup.start();
    let client = server.client();
    let token = own_token(&at.drive);
    let id = at.put(STYLE, &LoraFile::of_size(2_000_000));
    at.drive
        .fail_next(Endpoint::Download, Fault::StallAfter(1_000_000));
    let begun = import_with_token(&client, &id, &token).await.expect(202);
    wait_until("a download", imports::PATIENCE, async || {
        at.drive.count(Endpoint::Download) == 1
    })
    .await;

    server.process.kill();
    let server = setup.start();

    let client = Client::new(&server.url, Some(client.person().clone()));
    let lora = imports::settled(&client, &id_of(&begun)).await;
    assert_eq!(lora["status"], "failed", "{lora}");
    assert_eq!(lora["error"]["code"], "credential_gone", "{lora}");
    // Whoever sends the token again gets the file.
    let again = import_with_token(&client, &id, &token).await.expect(202);
    imports::ready(&client, &id_of(&again)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn this_servers_credentials_are_told_to_nobody() {
    let at = DriveSite::new(ATELIER).await;
    let server = at.setup().with("RUST_LOG", "debug").start();
    let client = server.client();
    let id = at.put(STYLE, &LoraFile::small(1));
    let lora = begin(&client, &id).await;
    let lora = imports::ready(&client, &lora).await;
    at.drive.revoke_access_tokens();
    at.drive.revoke_refresh_token();

    let refused = import_of(&client, &id).await;

    let refused = refused.expect_problem(422, "source-unauthorized");
    assert!(refused.to_string().contains("GDOC_TOKEN"), "{refused}");
    let rows = rows_of(&at.site.database).await;
    let printed = server.process.printed();
    let gdoc_token: Value = serde_json::from_str(&at.drive.gdoc_token()).expect("JSON");
    let secret = gdoc_token["client_secret"].as_str().expect("a secret");
    for secret in [secret, "double-refresh-token-", "double-access-token-"] {
        for text in [&rows, &printed, &lora.to_string(), &refused.to_string()] {
            assert!(!text.contains(secret), "{secret} was told");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_credentials_says_what_it_needs() {
    let site = Site::new(ATELIER).await;
    let server = site.serve();
    let client = server.client();

    let problem = import_of(&client, &new_id())
        .await
        .expect_problem(503, "drive-not-configured");

    let detail = problem["detail"].as_str().expect("a detail");
    for variable in ["GDOC_TOKEN", "GOOGLE_CLIENT_ID"] {
        assert!(detail.contains(variable), "{detail}");
    }
    let list = client.get("/loras").await.expect(200);
    assert_eq!(list["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_none_is_refused_and_not_repeated() {
    let client = house().await.server.client();
    for (path, header, value) in [
        ("google-drive", "x-google-access-token", "two secret words"),
        ("google-drive", "x-google-access-token", ""),
        ("url", "x-source-authorization", "secret"),
        ("url", "x-source-authorization", "Basic secret"),
    ] {
        let request = client
            .request(Method::POST, &format!("/loras/import-from-{path}"))
            .header(header, value)
            .json(&json!({"google_drive_file_id": new_id(), "url": "https://huggingface.co/a"}));
        let problem = client
            .send(request)
            .await
            .expect_problem(400, "bad-request");
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
}
