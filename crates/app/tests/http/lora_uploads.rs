//! The form in which LoRAs come, and everything that can be wrong with it.

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use atelier_testkit::build::safetensors_bytes;
use serde_json::json;

use crate::support::{API, Answer, MAX_LORA_BYTES, Server, World, as_user, form};

const FILE: &str = "name=\"file\"; filename=\"style.safetensors\"";

async fn send(server: &Server, parts: &[(&str, &[u8])]) -> Answer {
    let (content_type, body) = form(parts);
    let request = as_user("alice", Method::POST, "/loras")
        .insert_header((CONTENT_TYPE, content_type))
        .set_payload(body);
    server.send(request).await
}

/// Checks that nothing is left of what was refused: no object, and no row that
/// says it is ready or on its way.
async fn is_clean(world: &World, server: &Server) {
    assert_eq!(world.blobs.keys(), []);
    let rows = server.get("/loras").await.json();
    for row in rows["items"].as_array().unwrap() {
        assert_eq!(row["status"], "failed", "{row}");
    }
}

#[actix_web::test]
async fn the_fields_come_in_any_order() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);

    let last = send(
        &server,
        &[
            ("name=\"tags\"", b"a,b"),
            ("name=\"name\"", "Ein Stil für Häuser".as_bytes()),
            (FILE, &bytes),
        ],
    )
    .await;
    let first = send(
        &server,
        &[
            ("name=\"file\"; filename=\"other.safetensors\"", &bytes),
            ("name=\"description\"", b"for houses\nand lakes"),
            ("name=\"tags\"", b"a"),
            ("name=\"tags\"", b" b, c ,"),
        ],
    )
    .await;

    assert_eq!(
        (last.status.as_u16(), first.status.as_u16()),
        (201, 201),
        "{last:?} {first:?}"
    );
    let (last, first_lora) = (last.json(), first.json());
    assert_eq!(
        (&last["name"], &last["tags"]),
        (&json!("Ein Stil für Häuser"), &json!(["a", "b"]))
    );
    assert_eq!(first_lora["description"], "for houses\nand lakes");
    assert_eq!(first_lora["tags"], json!(["a", "b", "c"]));
    let location = format!("{API}/loras/{}", first_lora["id"].as_str().unwrap());
    assert_eq!(first.header("location"), Some(location.as_str()));
}

#[actix_web::test]
async fn a_form_without_a_file_is_told_so() {
    let world = World::new();
    let server = world.server().await;

    send(&server, &[("name=\"name\"", b"a")])
        .await
        .is_problem(422, "validation", &["/file"]);
    send(&server, &[])
        .await
        .is_problem(422, "validation", &["/file"]);
    let unnamed = send(&server, &[("name=\"file\"", &safetensors_bytes(1))]).await;
    unnamed.is_problem(422, "validation", &["/file"]);
    is_clean(&world, &server).await;
}

#[actix_web::test]
async fn file_names_are_one_safe_segment() {
    let world = World::new();
    let server = world.server().await;
    let long = format!("{}.safetensors", "x".repeat(200));

    for name in [
        "../x.safetensors",
        "a/b.safetensors",
        "a\\\\b.safetensors",
        "x.ckpt",
        ".x.safetensors",
        "",
        &long,
    ] {
        let head = format!("name=\"file\"; filename=\"{name}\"");
        let answer = send(&server, &[(&head, &safetensors_bytes(1))]).await;
        answer.is_problem(422, "validation", &["/file"]);
    }
    is_clean(&world, &server).await;
}

#[actix_web::test]
async fn a_name_in_the_extended_notation_is_the_name() {
    let world = World::new();
    let server = world.server().await;
    let head = "name=\"file\"; filename=\"x.safetensors\"; filename*=UTF-8''%C3%A4.safetensors";

    let answer = send(&server, &[(head, &safetensors_bytes(1))]).await;

    assert_eq!(answer.json()["filename"], "ä.safetensors");
}

#[actix_web::test]
async fn what_is_no_safetensors_file_is_refused() {
    let world = World::new();
    let server = world.server().await;
    let good = safetensors_bytes(1);
    let mut huge_header = u32::MAX.to_le_bytes().to_vec();
    huge_header.extend([0, 0, 0, 0]);
    huge_header.extend(b"{\"a\":1}");
    let mut appended = good.to_vec();
    appended.extend(b"more");

    for (what, bytes) in [
        ("a pickle", b"\x80\x02}q\x00.".repeat(10)),
        (
            "a zip, as torch.save writes it",
            b"PK\x03\x04archive/data.pkl".to_vec(),
        ),
        ("cut short", good[..good.len() - 1].to_vec()),
        ("cut in its header", good[..20].to_vec()),
        ("a header of four gibibytes", huge_header),
        ("empty", Vec::new()),
        ("with bytes after its end", appended),
    ] {
        let answer = send(&server, &[(FILE, &bytes)]).await;
        answer.is_problem(422, "validation", &["/file"]);
        assert!(!what.is_empty());
    }
    is_clean(&world, &server).await;
}

#[actix_web::test]
async fn a_file_larger_than_the_limit_is_413() {
    let world = World::new();
    let server = world.server().await;
    // The header promises more data than the limit allows.
    let header =
        json!({"a": {"dtype": "F16", "shape": [60_000], "data_offsets": [0, 120_000]}}).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + 120_000, 1);

    let answer = send(&server, &[(FILE, &bytes)]).await;

    answer.is_problem(413, "payload-too-large", &[]);
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains(&MAX_LORA_BYTES.to_string())
    );
    let announced = as_user("alice", Method::POST, "/loras")
        .insert_header((CONTENT_TYPE, "multipart/form-data; boundary=frontier"))
        .insert_header((CONTENT_LENGTH, "99999999999"));
    server
        .send(announced)
        .await
        .is_problem(413, "payload-too-large", &[]);
    is_clean(&world, &server).await;
}

#[actix_web::test]
async fn texts_are_checked_wherever_they_stand() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);
    let name = "x".repeat(201);

    for parts in [
        [("name=\"name\"", name.as_bytes()), (FILE, bytes.as_ref())],
        [(FILE, bytes.as_ref()), ("name=\"name\"", name.as_bytes())],
        [(FILE, bytes.as_ref()), ("name=\"name\"", b"a\0b")],
        [("name=\"name\"", b"\xff"), (FILE, bytes.as_ref())],
    ] {
        send(&server, &parts)
            .await
            .is_problem(422, "validation", &["/name"]);
    }
    let parts = [
        ("name=\"tags\"", b"fine,a\0b".as_ref()),
        ("name=\"description\"", b"\x07"),
        (FILE, &bytes),
    ];
    send(&server, &parts)
        .await
        .is_problem(422, "validation", &["/tags/1", "/description"]);
    let long = "x".repeat(70_000);
    let parts = [
        (FILE, bytes.as_ref()),
        ("name=\"description\"", long.as_bytes()),
    ];
    send(&server, &parts)
        .await
        .is_problem(422, "validation", &["/description"]);
    is_clean(&world, &server).await;
}

#[actix_web::test]
async fn fields_that_are_unknown_or_there_twice_are_refused() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);

    let twice = [
        (FILE, bytes.as_ref()),
        ("name=\"file\"; filename=\"b.safetensors\"", &bytes),
    ];
    send(&server, &twice)
        .await
        .is_problem(422, "validation", &["/file"]);
    let names = [
        ("name=\"name\"", b"a".as_ref()),
        ("name=\"name\"", b"b"),
        (FILE, &bytes),
    ];
    send(&server, &names)
        .await
        .is_problem(422, "validation", &["/name"]);
    let unknown = [(FILE, bytes.as_ref()), ("name=\"folder/x\"", b"a")];
    send(&server, &unknown)
        .await
        .is_problem(422, "validation", &["/folder~1x"]);
    let many = vec![("name=\"tags\"", b"".as_ref()); 201];
    send(&server, &many)
        .await
        .is_problem(422, "validation", &[""]);
    is_clean(&world, &server).await;
}

#[actix_web::test]
async fn the_same_bytes_again_are_the_lora_that_is_there() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);
    let first = send(&server, &[(FILE, &bytes)]).await;
    assert_eq!(first.status, 201);

    for parts in [
        &[(FILE, bytes.as_ref())][..],
        &[("name=\"replace\"", b"true"), (FILE, bytes.as_ref())],
    ] {
        let again = send(&server, parts).await;

        assert_eq!(again.status, 200, "{again:?}");
        assert_eq!(again.json(), first.json());
        assert_eq!(again.header("location"), first.header("location"));
    }
    let listed = server.get("/loras").await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn other_bytes_under_a_filename_are_409_with_the_way_out() {
    let world = World::new();
    let server = world.server().await;
    let first = send(&server, &[(FILE, &safetensors_bytes(1))]).await.json();

    let refused = send(&server, &[(FILE, &safetensors_bytes(2))]).await;
    refused.is_problem(409, "lora-filename-taken", &[]);
    let problem = refused.json();
    assert_eq!(problem["existing"], first["id"]);
    assert!(problem["detail"].as_str().unwrap().contains("replace=true"));

    let replaced = send(
        &server,
        &[("name=\"replace\"", b"true"), (FILE, &safetensors_bytes(2))],
    )
    .await;
    assert_eq!(replaced.status, 201, "{replaced:?}");
    assert_eq!(replaced.json()["version"], 2);
    let (content_type, body) = form(&[(FILE, &safetensors_bytes(3))]);
    let by_query = as_user("alice", Method::POST, "/loras?replace=true")
        .insert_header((CONTENT_TYPE, content_type))
        .set_payload(body);
    assert_eq!(server.send(by_query).await.json()["version"], 3);
}

#[actix_web::test]
async fn a_wish_to_replace_is_plain_and_stands_before_the_file() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);

    for parts in [
        &[(FILE, bytes.as_ref()), ("name=\"replace\"", b"true")][..],
        &[("name=\"replace\"", b"perhaps"), (FILE, bytes.as_ref())],
        &[
            ("name=\"replace\"", b"true"),
            ("name=\"replace\"", b"true"),
            (FILE, bytes.as_ref()),
        ],
    ] {
        send(&server, parts)
            .await
            .is_problem(422, "validation", &["/replace"]);
    }
    let (content_type, body) = form(&[(FILE, &bytes)]);
    let by_query = as_user("alice", Method::POST, "/loras?replace=yes")
        .insert_header((CONTENT_TYPE, content_type))
        .set_payload(body);
    server
        .send(by_query)
        .await
        .is_problem(422, "validation", &["?replace"]);
    is_clean(&world, &server).await;
}

#[actix_web::test]
async fn broken_forms_are_told_as_such() {
    let world = World::new();
    let server = world.server().await;
    let request = |content_type: &str, body: Vec<u8>| {
        as_user("alice", Method::POST, "/loras")
            .insert_header((CONTENT_TYPE, content_type))
            .set_payload(body)
    };
    let (content_type, whole) = form(&[(FILE, &safetensors_bytes(1))]);

    let json = request("application/json", b"{}".to_vec());
    server
        .send(json)
        .await
        .is_problem(415, "unsupported-media-type", &[]);
    let untyped = as_user("alice", Method::POST, "/loras").set_payload("x");
    server
        .send(untyped)
        .await
        .is_problem(415, "unsupported-media-type", &[]);
    for (content_type, body) in [
        ("multipart/form-data", whole.clone()),
        (content_type, whole[..whole.len() / 2].to_vec()),
        (content_type, b"no boundary at all".to_vec()),
        (
            content_type,
            b"--frontier\r\nContent-Type: text/plain\r\n\r\nx\r\n--frontier--\r\n".to_vec(),
        ),
    ] {
        server
            .send(request(content_type, body))
            .await
            .is_problem(400, "invalid-multipart", &[]);
    }
    is_clean(&world, &server).await;
}

#[actix_web::test]
async fn a_store_that_is_down_leaves_nothing_behind() {
    let world = World::new();
    let server = world.server().await;
    world.blobs.outage().begin();

    let answer = send(&server, &[(FILE, &safetensors_bytes(1))]).await;

    answer.is_problem(503, "unavailable", &[]);
    world.blobs.outage().end();
    is_clean(&world, &server).await;
    assert_eq!(
        send(&server, &[(FILE, &safetensors_bytes(1))]).await.status,
        201
    );
}
