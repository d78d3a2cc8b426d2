//! Pages, filters, cursors.

use atelier_domain::workflow::NewWorkflow;
use atelier_testkit::build::{a_workflow, name, tags};
use serde_json::Value;

use crate::support::{API, Server, World};

async fn world_of(count: usize) -> (World, Server) {
    let world = World::new();
    for number in 0..count {
        let new = NewWorkflow {
            name: name(&format!("number {number}")),
            tags: tags(&[if number % 2 == 0 { "even" } else { "odd & co" }]),
            ..a_workflow()
        };
        world.keep(&world.alice, new).await;
    }
    let server = world.server().await;
    (world, server)
}

fn names(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}

#[actix_web::test]
async fn following_the_links_shows_every_item_once_newest_first() {
    let (_world, server) = world_of(7).await;
    let mut path = "/workflows?tag=odd+%26+co&limit=2".to_owned();
    let mut seen = Vec::new();

    loop {
        let answer = server.get(&path).await;
        let page = answer.json();
        seen.extend(names(&page));
        let Some(link) = answer.header("link") else {
            assert_eq!(page["next_cursor"], Value::Null);
            break;
        };
        let target = link
            .strip_prefix('<')
            .and_then(|link| link.strip_suffix(">; rel=\"next\""))
            .unwrap();
        assert!(
            target.contains(page["next_cursor"].as_str().unwrap()),
            "{target}"
        );
        assert!(target.contains("limit=2"), "{target}");
        path = target.strip_prefix(API).unwrap().to_owned();
    }

    assert_eq!(seen, ["number 5", "number 3", "number 1"]);
}

#[actix_web::test]
async fn filters_narrow_a_list() {
    let (_world, server) = world_of(3).await;

    assert_eq!(
        names(&server.get("/workflows?q=NUMBER%202").await.json()),
        ["number 2"]
    );
    assert_eq!(
        names(&server.get("/workflows?scope=public").await.json()),
        Vec::<String>::new()
    );
    assert_eq!(
        names(&server.get("/workflows?scope=own&tag=&q=").await.json()).len(),
        3
    );
}

#[actix_web::test]
async fn a_bad_cursor_is_400() {
    let (_world, server) = world_of(3).await;
    let cursor = server.get("/workflows?limit=1").await.json()["next_cursor"]
        .as_str()
        .unwrap()
        .to_owned();

    for path in [
        "/workflows?cursor=nonsense".to_owned(),
        "/runs?cursor=%00".to_owned(),
        format!("/workflows?scope=own&cursor={cursor}"),
        format!("/loras?cursor={cursor}"),
    ] {
        server
            .get(&path)
            .await
            .is_problem(400, "bad-cursor", &["?cursor"]);
    }
    assert_eq!(
        server
            .get(&format!("/workflows?cursor={cursor}"))
            .await
            .status,
        200
    );
}

#[actix_web::test]
async fn bad_parameters_are_told_all_at_once() {
    let (_world, server) = world_of(0).await;

    let (q, tag) = ("x".repeat(201), "y".repeat(65));
    server
        .get(&format!(
            "/workflows?scope=mine&limit=201&q={q}&tag={tag}&page=2"
        ))
        .await
        .is_problem(
            422,
            "validation",
            &["?scope", "?tag", "?q", "?limit", "?page"],
        );
    server
        .get("/workflows?q=a%00b&tag=%1F")
        .await
        .is_problem(422, "validation", &["?tag", "?q"]);
    server
        .get("/runs?status=done&workflow_id=7&limit=0")
        .await
        .is_problem(422, "validation", &["?status", "?workflow_id", "?limit"]);
    server.get("/loras?status=done&limit=-1").await.is_problem(
        422,
        "validation",
        &["?status", "?limit"],
    );
    server
        .get("/loras?limit=1&limit=2")
        .await
        .is_problem(422, "validation", &["?limit"]);
}
