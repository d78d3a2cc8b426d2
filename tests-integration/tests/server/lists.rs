//! Lists: pages by cursor, newest first.

use atelier_tests_integration::client::Client;
use atelier_tests_integration::workflows::without_models;
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::house;

async fn create(client: &Client, name: &str, tags: &[&str]) -> String {
    let body = json!({"name": name, "tags": tags, "workflow_json": without_models(1)});
    let workflow = client.post("/workflows", &body).await.expect(201);
    atelier_tests_integration::client::id_of(&workflow)
}

fn ids(page: &Value) -> Vec<String> {
    page["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(atelier_tests_integration::client::id_of)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn following_the_links_shows_everything_once_newest_first() {
    let client = house().await.server.client();
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(create(&client, &format!("Workflow {number}"), &["a & b"]).await);
    }
    made.reverse();

    let mut seen = Vec::new();
    let mut address = "/api/v1/comfyui/workflows?scope=own&tag=a%20%26%20b&limit=3".to_owned();
    loop {
        let answer = client.send(client.at(Method::GET, &address)).await;
        let link = answer.headers.get("link").cloned();
        let page = answer.expect(200);
        let page_ids = ids(&page);
        assert!(page_ids.len() <= 3, "{page}");
        seen.extend(page_ids);
        assert_eq!(page["items"][0].get("workflow_json"), None);
        assert_eq!(link.is_some(), page["next_cursor"].is_string(), "{page}");
        let Some(link) = link else { break };
        let link = link.to_str().expect("ASCII");
        address = link
            .strip_prefix('<')
            .and_then(|rest| rest.strip_suffix(">; rel=\"next\""))
            .expect("the next page")
            .to_owned();
        if seen.len() == 3 {
            // What comes meanwhile moves nothing.
            create(&client, "A later one", &["a & b"]).await;
        }
    }

    assert_eq!(seen, made);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_choose_by_tag_text_and_status() {
    let client = house().await.server.client();
    let lake = create(&client, "House by a LAKE", &["water"]).await;
    let hill = create(&client, "100% hill_top", &["land"]).await;
    let run = client.start_run(&hill, &json!({})).await;
    client.finished_run(&run).await;
    let list = async |address: &str| ids(&client.get(address).await.expect(200));

    assert_eq!(
        list("/workflows?scope=own&tag=water").await,
        [lake.as_str()]
    );
    assert_eq!(list("/workflows?scope=own&q=lake").await, [lake.as_str()]);
    assert_eq!(
        list("/workflows?scope=own&q=0%25%20h").await,
        [hill.as_str()]
    );
    // Signs that mean something to the database mean themselves.
    assert!(list("/workflows?scope=own&q=%25y%25").await.is_empty());
    assert!(list("/workflows?scope=own&q=hill.top").await.is_empty());
    assert_eq!(list("/runs?status=completed").await, [run.as_str()]);
    assert_eq!(
        list(&format!("/runs?workflow_id={hill}")).await,
        [run.as_str()]
    );
    assert!(list("/runs?status=failed").await.is_empty());
    assert!(list(&format!("/workflows/{lake}/runs")).await.is_empty());
}
