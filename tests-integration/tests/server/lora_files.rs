//! The bytes of LoRAs: handed out to their owner, cleaned away after the end.

use std::time::Duration;

use atelier_testkit::build::{safetensors_bytes, sha256_of};
use atelier_testkit::wait_until;
use atelier_tests_integration::client::id_of;
use atelier_tests_integration::workflows::with_lora;
use reqwest::Method;

use crate::house::house;

/// Cleaning happens about once a minute.
const CLEANING: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn the_content_is_what_was_uploaded_in_whole_and_in_parts() {
    let client = house().await.server.client();
    let file = safetensors_bytes(1);
    let id = id_of(&client.add_lora("style.safetensors", 1).await);
    let path = format!("/loras/{id}/content");

    let whole = client.get(&path).await;
    let part = client
        .send(
            client
                .request(Method::GET, &path)
                .header("range", "bytes=8-15"),
        )
        .await;
    let head = client.send(client.request(Method::HEAD, &path)).await;

    assert_eq!(whole.bytes, file);
    assert_eq!(whole.header("etag"), format!("\"{}\"", sha256_of(&file)));
    assert_eq!(
        whole.header("content-disposition"),
        "attachment; filename=\"style.safetensors\""
    );
    assert_eq!(part.status, 206);
    assert_eq!(Some(part.bytes.as_slice()), file.get(8..16));
    assert_eq!(head.header("content-length"), file.len().to_string());
    assert!(head.bytes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_lora_is_gone_at_once_and_its_files_soon() {
    let house = house().await;
    let client = house.server.client();
    let id = id_of(&client.add_lora("style.safetensors", 1).await);
    let run = client.run_to_the_end(&with_lora("style.safetensors")).await;
    assert_eq!(run["status"], "completed", "{run}");
    let user = client.person().id;
    let object = house
        .site
        .objects
        .join(format!("user-{user}/loras/style.safetensors"));
    let copy = house
        .site
        .backend
        .loras
        .join(format!("user-{user}/style.safetensors"));
    assert!(object.is_file() && copy.is_file());
    let path = format!("/loras/{id}");

    client.delete(&path).await.expect(204);

    client
        .get(&path)
        .await
        .expect_problem(404, "lora-not-found");
    let content = client.get(&format!("{path}/content")).await;
    content.expect_problem(404, "lora-not-found");
    client
        .delete(&path)
        .await
        .expect_problem(404, "lora-not-found");
    let listed = client.get("/loras").await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(0));
    let workflow = client
        .create_workflow(&with_lora("style.safetensors"), false)
        .await;
    let refused = client
        .post(
            &format!("/workflows/{workflow}/run"),
            &serde_json::json!({}),
        )
        .await;
    let pointers = refused.expect_pointers(422, "validation");
    assert_eq!(pointers, ["/workflow_json/10/inputs/lora_name"]);
    wait_until("object and copy to be gone", CLEANING, async || {
        !object.exists() && !copy.exists()
    })
    .await;
    let rows = format!("select count(*) from comfyui_lora_models where id = '{id}'");
    wait_until("the row to be gone", CLEANING, async || {
        house.site.database.count(&rows).await == 0
    })
    .await;
}
