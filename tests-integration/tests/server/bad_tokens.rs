//! Tokens that sign nobody in.

use atelier_tests_integration::client::Answer;
use atelier_tests_integration::people::Person;
use reqwest::Method;
use reqwest::header::AUTHORIZATION;

use crate::house::house;

const PATH: &str = "/workflows";

async fn with_authorization(value: &str) -> Answer {
    let anonymous = house().await.server.anonymous();
    anonymous
        .send(
            anonymous
                .request(Method::GET, PATH)
                .header(AUTHORIZATION, value),
        )
        .await
}

/// What is told about a refused token.
async fn refusal(authorization: &str) -> String {
    let answer = with_authorization(authorization).await;
    let challenge = answer.header("www-authenticate").to_owned();
    assert!(
        challenge.starts_with("Bearer realm=\"atelier\", error="),
        "{challenge}"
    );
    let problem = answer.expect_problem(401, "unauthenticated");
    problem["detail"].as_str().expect("a detail").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_signs_in() {
    let person = Person::new();

    let answer = with_authorization(&format!("bearer {}", person.token)).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_answered_with_a_challenge_without_an_error() {
    let anonymous = house().await.server.anonymous();

    let answer = anonymous.get(PATH).await;

    assert_eq!(
        answer.header("www-authenticate"),
        "Bearer realm=\"atelier\""
    );
    answer.expect_problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_token_is_refused_with_its_reason() {
    let person = Person::new();
    let (head, signature) = person.token.rsplit_once('.').expect("three parts");
    let (header, claims) = head.split_once('.').expect("three parts");
    let other_claims = Person::new().token;
    let other_claims = other_claims.split('.').nth(1).expect("three parts");

    for (token, reason) in [
        (person.expired_token(), "expired"),
        (person.forged_token(), "signature"),
        (person.unsigned_token(), "HS256"),
        (format!("{header}.{claims}."), "signature"),
        (format!("{header}.{other_claims}.{signature}"), "signature"),
        ("sb_secret_0123456789abcdef".to_owned(), "API key"),
        ("no-token".to_owned(), "three parts"),
        ("a.b.c".to_owned(), "three parts"),
        ("x".repeat(20_000), "longer"),
    ] {
        let told = refusal(&format!("Bearer {token}")).await;
        assert!(told.contains(reason), "{reason}: {told}");
        assert!(!told.contains(&token), "the token is told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_schemes_sign_nobody_in() {
    for value in [
        "Basic dXNlcjpwYXNzd29yZA==",
        "Bearer",
        "Bearer ",
        "Token abc",
    ] {
        let told = refusal(value).await;
        assert!(told.contains("Bearer"), "{value}: {told}");
    }
}
