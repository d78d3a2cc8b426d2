//! Outputs and contents: bytes, ranges, conditions, headers.

use actix_web::http::Method;
use actix_web::http::header::{IF_NONE_MATCH, IF_RANGE, RANGE};
use atelier_domain::output::RunOutput;
use atelier_testkit::build::{a_workflow, an_output, sha256_of};
use serde_json::json;

use crate::support::{Server, World, as_user, workflow_path};

const PICTURE: &[u8] = b"0123456789";

/// A run of Alice's that left one picture behind, changed as asked; gives the
/// picture's path.
async fn picture(world: &World, server: &Server, change: impl FnOnce(&mut RunOutput)) -> String {
    let workflow = world.keep(&world.alice, a_workflow()).await.id;
    let run = server
        .post(&format!("{}/run", workflow_path(workflow)), &json!({}))
        .await
        .json();
    let blobs = world.blobs.clone();
    world
        .complete_next(|run| {
            let mut output = RunOutput {
                size_bytes: PICTURE.len() as u64,
                sha256: sha256_of(PICTURE),
                ..an_output(run, 0)
            };
            blobs.put(&output.blob_key, PICTURE);
            change(&mut output);
            vec![output]
        })
        .await;
    format!("/runs/{}/outputs/0", run["id"].as_str().unwrap())
}

#[actix_web::test]
async fn an_output_comes_with_its_type_its_name_and_its_digest() {
    let world = World::new();
    let server = world.server().await;
    let path = picture(&world, &server, |_| ()).await;

    let answer = server.get(&path).await;

    assert_eq!(
        (answer.status.as_u16(), answer.bytes().as_ref()),
        (200, PICTURE)
    );
    assert_eq!(answer.header("content-type"), Some("image/png"));
    assert_eq!(
        answer.header("content-disposition"),
        Some("inline; filename=\"house_00000_.png\"")
    );
    assert_eq!(
        answer.header("etag"),
        Some(format!("\"{}\"", sha256_of(PICTURE)).as_str())
    );
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(
        answer.header("content-security-policy"),
        Some("sandbox; default-src 'none'")
    );
}

#[actix_web::test]
async fn an_output_is_its_owners_alone() {
    let world = World::new();
    let server = world.server().await;
    let path = picture(&world, &server, |_| ()).await;

    server
        .send(as_user("bob", Method::GET, &path))
        .await
        .is_problem(404, "run-not-found", &[]);
    let other = path.replace("/outputs/0", "/outputs/1");
    server
        .get(&other)
        .await
        .is_problem(404, "output-not-found", &[]);
}

#[actix_web::test]
async fn ranges_of_an_output() {
    let world = World::new();
    let server = world.server().await;
    let path = picture(&world, &server, |_| ()).await;
    let range = |range: &str| as_user("alice", Method::GET, &path).insert_header((RANGE, range));

    for (asked, content_range, bytes) in [
        ("bytes=0-2", "bytes 0-2/10", "012"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-4", "bytes 6-9/10", "6789"),
        ("bytes=5-99", "bytes 5-9/10", "56789"),
    ] {
        let answer = server.send(range(asked)).await;
        assert_eq!(answer.status, 206, "{asked}");
        assert_eq!(answer.header("content-range"), Some(content_range));
        assert_eq!(answer.bytes(), bytes);
    }
    let outside = server.send(range("bytes=10-")).await;
    outside.is_problem(416, "range-not-satisfiable", &[]);
    assert_eq!(outside.header("content-range"), Some("bytes */10"));
    for whole in ["bytes=0-1,4-5", "pages=1-2", "bytes=nonsense"] {
        assert_eq!(server.send(range(whole)).await.status, 200, "{whole}");
    }
    let stale = range("bytes=0-2").insert_header((IF_RANGE, "\"other\""));
    assert_eq!(server.send(stale).await.status, 200);
    let fresh = range("bytes=0-2").insert_header((IF_RANGE, format!("\"{}\"", sha256_of(PICTURE))));
    assert_eq!(server.send(fresh).await.status, 206);
}

#[actix_web::test]
async fn an_output_that_one_has_is_not_sent_again() {
    let world = World::new();
    let server = world.server().await;
    let path = picture(&world, &server, |_| ()).await;
    let tag = format!("\"{}\"", sha256_of(PICTURE));

    let request = as_user("alice", Method::GET, &path)
        .insert_header((IF_NONE_MATCH, tag.clone()))
        .insert_header((RANGE, "bytes=99-"));
    let answer = server.send(request).await;

    assert_eq!((answer.status.as_u16(), answer.bytes().len()), (304, 0));
    assert_eq!(answer.header("etag"), Some(tag.as_str()));
}

#[actix_web::test]
async fn a_page_among_the_outputs_is_saved_and_its_name_cannot_break_out() {
    let world = World::new();
    let server = world.server().await;
    let path = picture(&world, &server, |output| {
        output.content_type = "text/html".to_owned();
        output.filename = "a\"; x=\"\r\nSet-Cookie: ü.html".to_owned();
    })
    .await;

    let answer = server.get(&path).await;

    assert_eq!(answer.header("content-type"), Some("text/html"));
    assert!(answer.header("set-cookie").is_none());
    let disposition = answer.header("content-disposition").unwrap();
    assert!(
        disposition.starts_with(
            "attachment; filename=\"a_; x=___Set-Cookie: _.html\"; filename*=UTF-8''a%22%3B"
        ),
        "{disposition}"
    );
}

#[actix_web::test]
async fn a_content_type_that_is_none_becomes_bytes() {
    let world = World::new();
    let server = world.server().await;

    for hostile in ["image/png\r\nX: y", "nonsense", "/"] {
        let path = picture(&world, &server, |output| {
            hostile.clone_into(&mut output.content_type);
        })
        .await;
        let answer = server.get(&path).await;
        assert_eq!(
            answer.header("content-type"),
            Some("application/octet-stream"),
            "{hostile:?}"
        );
    }
}

#[actix_web::test]
async fn an_output_whose_bytes_are_gone_is_404_and_a_store_that_is_down_is_503() {
    let world = World::new();
    let server = world.server().await;
    let path = picture(&world, &server, |output| {
        output.blob_key = an_output(atelier_testkit::random_id().into(), 0).blob_key;
    })
    .await;

    server
        .get(&path)
        .await
        .is_problem(404, "output-not-found", &[]);
    world.blobs.outage().begin();
    server.get(&path).await.is_problem(503, "unavailable", &[]);
}
