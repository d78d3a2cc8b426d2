//! What ComfyUI offers by itself.

use atelier_testkit::random_id;
use serde_json::{Value, json};

use crate::support::{API, World};

fn names(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap()).collect()
}

#[actix_web::test]
async fn the_systems_loras_are_listed_by_name_and_nobodys_own() {
    let world = World::new();
    let own = format!("user-{}/secret.safetensors", random_id());
    let hidden = format!("styles/USER-{}/secret.safetensors", random_id());
    let offered = ["styles/ink.safetensors", "a.safetensors", &own, &hidden];
    world.comfy.offer_loras(offered);
    let server = world.server().await;

    let page = server.get("/loras/system").await;

    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(
        page.json(),
        json!({
            "items": [
                {"name": "a.safetensors", "backends": ["comfyui"]},
                {"name": "styles/ink.safetensors", "backends": ["comfyui"]}
            ],
            "next_cursor": null
        })
    );
    let searched = server.get("/loras/system?q=SECRET").await.json();
    assert_eq!(searched["items"], json!([]));
    let searched = server.get("/loras/system?q=Ink").await.json();
    assert_eq!(names(&searched), ["styles/ink.safetensors"]);
}

#[actix_web::test]
async fn pages_go_on_behind_the_last_name() {
    let world = World::new();
    let files = [
        "a.safetensors",
        "b.safetensors",
        "c.safetensors",
        "d.safetensors",
        "e.pt",
    ];
    world.comfy.offer_loras(files);
    let server = world.server().await;
    let mut seen = Vec::new();
    let mut path = "/loras/system?limit=2".to_owned();

    loop {
        let answer = server.get(&path).await;
        let page = answer.json();
        seen.extend(names(&page).into_iter().map(str::to_owned));
        let Some(cursor) = page["next_cursor"].as_str() else {
            assert_eq!(answer.header("link"), None);
            break;
        };
        path = format!("/loras/system?limit=2&cursor={cursor}");
        assert_eq!(
            answer.header("link"),
            Some(format!("<{API}{path}>; rel=\"next\"").as_str())
        );
    }

    assert_eq!(seen, files);
}

#[actix_web::test]
async fn a_cursor_of_another_list_is_refused() {
    let world = World::new();
    world.comfy.offer_loras(["a.safetensors", "b.safetensors"]);
    let server = world.server().await;
    let page = server.get("/loras/system?limit=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();

    for path in [
        format!("/loras/system?q=a&cursor={cursor}"),
        "/loras/system?cursor=nonsense!".to_owned(),
    ] {
        server
            .get(&path)
            .await
            .is_problem(400, "bad-cursor", &["?cursor"]);
    }
}

#[actix_web::test]
async fn while_no_backend_has_answered_it_is_503() {
    let world = World::new();
    world.comfy.outage().begin();
    let server = world.server().await;

    let answer = server.get("/loras/system").await;

    answer.is_problem(503, "unavailable", &[]);
    assert!(answer.header("retry-after").is_some());
}
