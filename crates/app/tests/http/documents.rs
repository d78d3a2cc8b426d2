//! The API's description, and the list of problems: public contracts both.

use std::fmt::Write as _;

use actix_web::test::TestRequest;
use atelier::http::openapi;
use atelier::http::problem::ProblemCode;
use serde_json::Value;

use crate::support::World;

#[test]
fn the_document_is_as_it_was() {
    insta::assert_snapshot!("openapi", openapi::document_text());
}

#[test]
fn the_problems_are_as_they_were() {
    let mut table = String::new();
    for code in ProblemCode::ALL {
        writeln!(
            table,
            "{} {} {}",
            code.status().as_u16(),
            code.slug(),
            code.title()
        )
        .unwrap();
    }

    insta::assert_snapshot!("problems", table);
}

#[actix_web::test]
async fn the_document_is_served() {
    let server = World::new().server().await;

    let answer = server.send(TestRequest::with_uri("/openapi.json")).await;

    assert_eq!(answer.status, 200);
    let document = answer.json();
    assert_eq!(
        document,
        serde_json::from_str::<Value>(&openapi::document_text()).unwrap()
    );
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    let document: Value = serde_json::from_str(&openapi::document_text()).unwrap();
    let mut references = Vec::new();
    collect(&document, &mut references);

    assert!(references.len() > 50, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                references.push(reference.clone());
            }
            members
                .values()
                .for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[actix_web::test]
async fn the_pages_are_served_from_here() {
    let server = World::new().server().await;

    let redirect = server.send(TestRequest::with_uri("/docs")).await;
    assert_eq!(
        (redirect.status.as_u16(), redirect.header("location")),
        (308, Some("/docs/"))
    );
    let page = server.send(TestRequest::with_uri("/docs/")).await;
    assert_eq!(page.header("content-type"), Some("text/html"));
    let script = server
        .send(TestRequest::with_uri("/docs/swagger-initializer.js"))
        .await;
    let script = String::from_utf8(script.bytes().to_vec()).unwrap();
    assert!(script.contains("/openapi.json"), "{script}");
    server
        .send(TestRequest::with_uri("/docs/nothing.js"))
        .await
        .is_problem(404, "not-found", &[]);
    server
        .send(TestRequest::with_uri("/docs/../../etc/passwd"))
        .await
        .is_problem(404, "not-found", &[]);
}
