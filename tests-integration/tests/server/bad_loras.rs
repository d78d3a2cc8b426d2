//! Uploads that are refused, and leave nothing behind.

use atelier_testkit::build::safetensors_bytes;
use atelier_testkit::{PATIENCE, wait_until};
use atelier_tests_integration::client::Client;
use atelier_tests_integration::raw_http::{RawAnswer, exchange};
use atelier_tests_integration::site::Site;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::house::{ATELIER, house};

fn safetensors_with(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    bytes
}

/// Nothing of an upload is left that could be listed as usable, or be in the way of the next one.
async fn assert_free(client: &Client, filename: &str) {
    wait_until("a filename that is free again", PATIENCE, async || {
        let uploaded = client
            .upload_lora(filename, safetensors_bytes(1).to_vec())
            .await;
        uploaded.status == 201
    })
    .await;
    let ready = client.get("/loras?status=ready").await.expect(200);
    assert_eq!(ready["items"].as_array().map(Vec::len), Some(1), "{ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_safetensors_are_refused_by_content() {
    let server = &house().await.server;
    let whole = safetensors_bytes(1).to_vec();
    let mut cut = whole.clone();
    cut.truncate(whole.len() - 1);
    let mut longer = whole.clone();
    longer.push(0);
    let mut huge_header = whole.clone();
    huge_header.splice(..8, (4_u64 * 1024 * 1024 * 1024).to_le_bytes());
    let tensor = r#"{"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}"#;

    for (what, bytes, says) in [
        ("nothing", Vec::new(), "too few"),
        ("seven bytes", vec![1; 7], "too few"),
        (
            "a pickle",
            b"\x80\x02}q\x00X\x05\x00\x00\x00stateq\x01s.".to_vec(),
            "pickle",
        ),
        ("a zip file", b"PK\x03\x04\x14\x00\x08\x08".to_vec(), "zip"),
        (
            "a web page",
            b"<!DOCTYPE html><html></html>".to_vec(),
            "web page",
        ),
        ("a text", b"just some words, not a model".to_vec(), "text"),
        ("a file cut short", cut, "cut short"),
        ("a file with something appended", longer, "describes only"),
        ("a header of 4 GiB", huge_header, "4294967296"),
        (
            "a header that is no JSON",
            safetensors_with("{\"a\": }", &[]),
            "header",
        ),
        (
            "half a header",
            safetensors_with(tensor, &[]).split_off(0)[..20].to_vec(),
            "cut short",
        ),
        (
            "data of another size",
            safetensors_with(tensor, &[0; 2]),
            "cut short",
        ),
    ] {
        let client = server.client();
        let problem = client
            .upload_lora("style.safetensors", bytes)
            .await
            .expect_problem(422, "validation");
        assert_eq!(
            problem["errors"][0]["pointer"], "/file",
            "{what}: {problem}"
        );
        let detail = problem["errors"][0]["detail"].as_str().expect("a detail");
        assert!(detail.contains(says), "{what}: {detail}");
        assert_free(&client, "style.safetensors").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filenames_that_could_leave_their_folder_are_refused() {
    let client = house().await.server.client();
    for filename in [
        "../x.safetensors",
        "..\\x.safetensors",
        "a/b.safetensors",
        "/etc/x.safetensors",
        "C:x.safetensors",
        ".hidden.safetensors",
        ".safetensors",
        "x.ckpt",
        "x.safetensors.part",
        "x",
        " x.safetensors",
        &format!("{}.safetensors", "x".repeat(200)),
    ] {
        let answer = client
            .upload_lora(filename, safetensors_bytes(1).to_vec())
            .await;
        let pointers = answer.expect_pointers(422, "validation");
        assert_eq!(pointers, ["/file"], "{filename}");
    }
    let all = client.get("/loras").await.expect(200);
    assert_eq!(all["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filename_is_taken_once_by_each_person() {
    let server = &house().await.server;
    let (client, other) = (server.client(), server.client());
    client.add_lora("Style.safetensors", 1).await;

    let bytes = safetensors_bytes(2).to_vec();
    let again = client.upload_lora("Style.safetensors", bytes).await;

    again.expect_problem(409, "lora-filename-taken");
    other.add_lora("Style.safetensors", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_that_are_no_upload_are_refused() {
    let client = house().await.server.client();
    let file = || Part::bytes(safetensors_bytes(1).to_vec()).file_name("a.safetensors");
    for (form, expected) in [
        (Form::new().text("name", "No file"), vec!["/file"]),
        (Form::new().text("file", "no file name"), vec!["/file"]),
        (
            Form::new().part("file", file()).part("file", file()),
            vec!["/file"],
        ),
        (
            Form::new().part("file", file()).text("folder", "x"),
            vec!["/folder"],
        ),
        (
            Form::new().text("name", "").part("file", file()),
            vec!["/name"],
        ),
        (
            Form::new()
                .text("name", "a")
                .text("name", "b")
                .part("file", file()),
            vec!["/name"],
        ),
        (
            Form::new()
                .part("file", file())
                .text("name", "x".repeat(201)),
            vec!["/name"],
        ),
        (
            Form::new()
                .text("description", "a\u{0}")
                .text("tags", "a,b\u{0}")
                .part("file", file()),
            vec!["/description", "/tags/1"],
        ),
    ] {
        let request = client.request(Method::POST, "/loras").multipart(form);
        let answer = client.send(request).await;
        assert_eq!(answer.expect_pointers(422, "validation"), expected);
    }
    assert_free(&client, "a.safetensors").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn details_of_an_upload_are_kept() {
    let client = house().await.server.client();
    let form = Form::new()
        .text("tags", "one, two")
        .part(
            "file",
            Part::bytes(safetensors_bytes(1).to_vec()).file_name("cafe\u{301}.safetensors"),
        )
        .text("name", " A style ")
        .text("description", "For\nhouses")
        .text("tags", "three");

    let request = client.request(Method::POST, "/loras").multipart(form);
    let answer = client.send(request).await;

    let location = answer.header("location").to_owned();
    let lora = answer.expect(201);
    assert_eq!(lora["filename"], "caf\u{e9}.safetensors");
    assert_eq!(lora["name"], "A style");
    assert_eq!(lora["description"], "For\nhouses");
    assert_eq!(lora["tags"], json!(["one", "two", "three"]));
    assert_eq!(lora["source"], json!({"kind": "upload"}));
    assert!(lora["base_model"].is_string(), "{lora}");
    assert_eq!(lora["trigger_words"][0], "trigger_word");
    let kept = client
        .send(client.at(Method::GET, &location))
        .await
        .expect(200);
    assert_eq!(kept, lora);
}

/// A whole request that uploads `file`, with these headers instead of a length.
fn upload(client: &Client, headers: &str, file: &[u8]) -> Vec<u8> {
    let mut body = b"--edge\r\nContent-Disposition: form-data; name=\"file\"; \
                     filename=\"a.safetensors\"\r\n\r\n"
        .to_vec();
    body.extend(file);
    body.extend(b"\r\n--edge--\r\n");
    let mut request = format!(
        "POST /api/v1/comfyui/loras HTTP/1.1\r\nHost: atelier\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary=edge\r\n\
         {headers}\r\n\r\n",
        client.person().token
    )
    .into_bytes();
    if headers.contains("chunked") {
        for piece in body.chunks(1000) {
            request.extend(format!("{:x}\r\n", piece.len()).bytes());
            request.extend(piece);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
    } else {
        request.extend(body);
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_larger_than_the_limit_is_refused_as_early_as_it_shows() {
    let site = Site::new(ATELIER).await;
    let limit = safetensors_bytes(1).len();
    let server = site
        .setup()
        .with("ATELIER_MAX_LORA_BYTES", limit.to_string())
        .start();
    let client = server.client();
    let whole = safetensors_bytes(1);
    let refused = |answer: &RawAnswer| {
        let problem: Value = answer.expect_problem(413, "payload-too-large");
        let detail = problem["detail"].as_str().expect("a detail").to_owned();
        assert!(detail.contains(&limit.to_string()), "{detail}");
    };

    // Told before anything is sent.
    let announced = upload(&client, "Content-Length: 1099511627776", b"");
    refused(&exchange(&server.url, &announced).await);
    // The form as a whole may be a little larger than the file.
    let mut file = whole.to_vec();
    file.extend([0; 1000]);
    let length = upload(&client, "", &file).len() - upload(&client, "", b"").len() + 115;
    let counted = upload(&client, &format!("Content-Length: {length}"), &file);
    refused(&exchange(&server.url, &counted).await);
    let chunked = upload(&client, "Transfer-Encoding: chunked", &file);
    refused(&exchange(&server.url, &chunked).await);

    let fits = upload(&client, "Transfer-Encoding: chunked", &whole);
    let fits = exchange(&server.url, &fits).await;
    assert_eq!(fits.status, 201, "{fits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_sender_goes_away_leaves_its_filename_free() {
    let server = &house().await.server;
    let client = server.client();
    let whole = safetensors_bytes(1);
    let (half, _) = whole.split_at(whole.len() / 2);
    let mut request = upload(&client, "Content-Length: 100000", half);
    // The end of the form never comes.
    request.truncate(request.len() - 20);

    {
        use tokio::io::AsyncWriteExt as _;
        let address = server.url.trim_start_matches("http://");
        let mut stream = tokio::net::TcpStream::connect(address)
            .await
            .expect("it listens");
        stream.write_all(&request).await.expect("it reads");
        wait_until("an upload that has begun", PATIENCE, async || {
            let begun = client.get("/loras?status=uploading").await.expect(200);
            begun["items"][0]["filename"] == "a.safetensors"
        })
        .await;
    }

    assert_free(&client, "a.safetensors").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_that_break_off_or_are_none_are_refused() {
    let server = &house().await.server;
    let client = server.client();
    let cut = {
        let mut request = upload(&client, "Transfer-Encoding: chunked", b"");
        // One chunk with the head of the form, and no end of the form.
        let head_end = request
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("a head")
            + 4;
        request.truncate(head_end);
        let start = b"--edge\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nabc";
        request.extend(format!("{:x}\r\n", start.len()).bytes());
        request.extend(start);
        request.extend(b"\r\n0\r\n\r\n");
        request
    };
    exchange(&server.url, &cut)
        .await
        .expect_problem(400, "invalid-multipart");

    let boundless = String::from_utf8(upload(&client, "Content-Length: 0", b""))
        .expect("text")
        .replace("; boundary=edge", "");
    let (head, _) = boundless.split_once("\r\n\r\n").expect("a head");
    let boundless = format!("{head}\r\n\r\n");
    let answer = exchange(&server.url, boundless.as_bytes()).await;
    assert!(matches!(answer.status, 400 | 415), "{answer:?}");
    answer.expect_problem(
        answer.status,
        if answer.status == 400 {
            "invalid-multipart"
        } else {
            "unsupported-media-type"
        },
    );
}
