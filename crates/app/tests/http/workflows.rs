use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use atelier_domain::workflow::NewWorkflow;
use atelier_testkit::build::{a_graph, a_workflow};
use serde_json::{Value, json};

use crate::support::{API, Answer, Server, World, as_user, workflow_path};

fn draft() -> Value {
    let graph: Value = serde_json::from_str(a_graph().as_str()).unwrap();
    json!({"name": "House", "description": "by a lake", "workflow_json": graph, "tags": ["a", "b"]})
}

async fn patch(server: &Server, path: &str, if_match: &str, body: &Value) -> Answer {
    let request = as_user("alice", Method::PATCH, path)
        .insert_header((IF_MATCH, if_match))
        .set_json(body);
    server.send(request).await
}

#[actix_web::test]
async fn a_workflow_comes_back_as_it_was_sent() {
    let world = World::new();
    let server = world.server().await;

    let created = server.post("/workflows", &draft()).await;

    assert_eq!(created.status, 201);
    let workflow = created.json();
    let location = created.header("location").unwrap();
    assert_eq!(
        location,
        format!("{API}/workflows/{}", workflow["id"].as_str().unwrap())
    );
    assert_eq!(created.header("etag"), Some("\"1\""));
    let mut expected = draft();
    expected["id"] = workflow["id"].clone();
    expected["user_id"] = json!(world.alice.user_id().to_string());
    expected["is_public"] = json!(false);
    expected["created_at"] = json!("2026-01-01T00:00:00.000000Z");
    expected["updated_at"] = json!("2026-01-01T00:00:00.000000Z");
    assert_eq!(workflow, expected);
    let read = server.get(location.strip_prefix(API).unwrap()).await;
    assert_eq!((read.status.as_u16(), read.json()), (200, expected));
    assert_eq!(read.header("content-type"), Some("application/json"));
    assert_eq!(read.header("cache-control"), Some("private, no-cache"));
    assert_eq!(read.header("x-content-type-options"), Some("nosniff"));
}

#[actix_web::test]
async fn the_private_is_absent_for_others_and_the_public_is_theirs_to_read_alone() {
    let world = World::new();
    let server = world.server().await;
    let private = world.keep(&world.alice, a_workflow()).await.id;
    let public = world
        .keep(
            &world.alice,
            NewWorkflow {
                is_public: true,
                ..a_workflow()
            },
        )
        .await
        .id;
    let bob = |method, id| as_user("bob", method, &workflow_path(id));

    for method in [Method::GET, Method::DELETE] {
        server
            .send(bob(method, private))
            .await
            .is_problem(404, "workflow-not-found", &[]);
    }
    for method in [Method::PUT, Method::PATCH] {
        let answer = server
            .send(bob(method.clone(), private).set_json(draft()))
            .await;
        answer.is_problem(404, "workflow-not-found", &[]);
        let answer = server.send(bob(method, public).set_json(draft())).await;
        answer.is_problem(403, "forbidden", &[]);
    }
    server
        .send(bob(Method::DELETE, public))
        .await
        .is_problem(403, "forbidden", &[]);
    assert_eq!(server.send(bob(Method::GET, public)).await.status, 200);
    let listed = server
        .send(as_user("bob", Method::GET, "/workflows"))
        .await
        .json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(listed["items"][0]["id"], json!(public.to_string()));
}

#[actix_web::test]
async fn put_replaces_and_patch_merges() {
    let world = World::new();
    let server = world.server().await;
    let path = workflow_path(world.keep(&world.alice, a_workflow()).await.id);

    let put = server
        .send(as_user("alice", Method::PUT, &path).set_json(draft()))
        .await;
    assert_eq!(
        (put.status.as_u16(), put.header("etag")),
        (200, Some("\"2\""))
    );
    assert_eq!(put.json()["tags"], json!(["a", "b"]));

    let merge = as_user("alice", Method::PATCH, &path)
        .insert_header((CONTENT_TYPE, "application/merge-patch+json"))
        .set_payload(r#"{"description": null, "is_public": true, "tags": null}"#);
    let patched = server.send(merge).await.json();
    assert_eq!(patched["name"], "House");
    assert_eq!(patched["description"], Value::Null);
    assert_eq!(patched["is_public"], json!(true));
    assert_eq!(patched["tags"], json!([]));
    assert_eq!(patched["workflow_json"], draft()["workflow_json"]);

    let whole = json!({"name": "B", "workflow_json": draft()["workflow_json"]});
    let put = server
        .send(as_user("alice", Method::PUT, &path).set_json(whole))
        .await
        .json();
    assert_eq!(
        (&put["is_public"], &put["tags"], &put["description"]),
        (&json!(false), &json!([]), &Value::Null)
    );
}

#[actix_web::test]
async fn what_cannot_be_taken_away_is_told() {
    let world = World::new();
    let server = world.server().await;
    let path = workflow_path(world.keep(&world.alice, a_workflow()).await.id);

    let body = json!({"name": null, "workflow_json": null, "id": "x"});
    let answer = patch(&server, &path, "*", &body).await;
    answer.is_problem(422, "validation", &["/name", "/workflow_json", "/id"]);
}

#[actix_web::test]
async fn a_write_under_another_revision_is_412() {
    let world = World::new();
    let server = world.server().await;
    let path = workflow_path(world.keep(&world.alice, a_workflow()).await.id);
    let rename = json!({"name": "B"});

    assert_eq!(patch(&server, &path, "\"1\"", &rename).await.status, 200);

    for stale in ["\"1\"", "W/\"2\"", "\"1\", \"7\"", "2", "\"two\""] {
        let answer = patch(&server, &path, stale, &rename).await;
        answer.is_problem(412, "precondition-failed", &[]);
        assert_eq!(answer.header("etag"), Some("\"2\""), "{stale}");
        let put = as_user("alice", Method::PUT, &path)
            .insert_header((IF_MATCH, stale))
            .set_json(draft());
        server
            .send(put)
            .await
            .is_problem(412, "precondition-failed", &[]);
        let delete = as_user("alice", Method::DELETE, &path).insert_header((IF_MATCH, stale));
        server
            .send(delete)
            .await
            .is_problem(412, "precondition-failed", &[]);
    }
    assert_eq!(
        patch(&server, &path, "\"9\", \"2\"", &rename).await.status,
        200
    );
    assert_eq!(patch(&server, &path, "*", &rename).await.status, 200);
    let delete = as_user("alice", Method::DELETE, &path).insert_header((IF_MATCH, "\"4\""));
    let deleted = server.send(delete).await;
    assert_eq!((deleted.status.as_u16(), deleted.bytes().len()), (204, 0));
    server
        .get(&path)
        .await
        .is_problem(404, "workflow-not-found", &[]);
}

#[actix_web::test]
async fn a_condition_on_somebody_elses_workflow_reveals_nothing() {
    let world = World::new();
    let server = world.server().await;
    let path = workflow_path(world.keep(&world.alice, a_workflow()).await.id);

    for condition in ["\"1\"", "\"1\", \"2\"", "W/\"1\"", "*"] {
        let delete = as_user("bob", Method::DELETE, &path).insert_header((IF_MATCH, condition));
        server
            .send(delete)
            .await
            .is_problem(404, "workflow-not-found", &[]);
    }
}

#[actix_web::test]
async fn what_one_has_already_is_not_sent_again() {
    let world = World::new();
    let server = world.server().await;
    let path = workflow_path(world.keep(&world.alice, a_workflow()).await.id);

    for tag in ["\"1\"", "W/\"1\"", "\"0\", \"1\"", "*"] {
        let request = as_user("alice", Method::GET, &path).insert_header((IF_NONE_MATCH, tag));
        let answer = server.send(request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.bytes().len()),
            (304, 0),
            "{tag}"
        );
        assert_eq!(answer.header("etag"), Some("\"1\""));
    }
    let request = as_user("alice", Method::GET, &path).insert_header((IF_NONE_MATCH, "\"2\""));
    assert_eq!(server.send(request).await.status, 200);
}

#[actix_web::test]
async fn a_list_holds_everything_but_the_graphs() {
    let world = World::new();
    let server = world.server().await;
    world.keep(&world.alice, a_workflow()).await;

    let item = server.get("/workflows").await.json()["items"][0].clone();

    let mut members: Vec<_> = item
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    members.sort_unstable();
    assert_eq!(
        members,
        [
            "created_at",
            "description",
            "id",
            "is_public",
            "name",
            "tags",
            "updated_at",
            "user_id"
        ]
    );
}
