//! Uploads in pieces, as a client of the tus protocol 1.0 makes them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Method, RequestBuilder};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::client::{Answer, Client};

const PATH: &str = "/loras/uploads";

/// An upload that was begun.
#[derive(Clone, Debug)]
pub struct Upload {
    client: Client,
    /// Where it is, such as `/api/v1/comfyui/loras/uploads/{id}`.
    pub path: String,
}

/// A request of the protocol below the API.
pub fn request(client: &Client, method: Method, path: &str) -> RequestBuilder {
    let path = format!("{PATH}{path}");
    client
        .request(method, &path)
        .header("tus-resumable", "1.0.0")
}

/// Asks for a place for a file of so many bytes; `metadata` are names with their texts.
pub async fn create(client: &Client, length: usize, metadata: &[(&str, &str)]) -> Answer {
    let pairs: Vec<String> = metadata
        .iter()
        .map(|(name, text)| format!("{name} {}", BASE64_STANDARD.encode(text)))
        .collect();
    let request = request(client, Method::POST, "")
        .header("upload-length", length)
        .header("upload-metadata", pairs.join(","));
    client.send(request).await
}

impl Upload {
    /// Begins an upload of a file of so many bytes.
    pub async fn begin(client: &Client, filename: &str, length: usize) -> Self {
        Self::begin_with(client, length, &[("filename", filename)]).await
    }

    /// The same with more to say about it.
    pub async fn begin_with(client: &Client, length: usize, metadata: &[(&str, &str)]) -> Self {
        let answer = create(client, length, metadata).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let path = answer.header("location").to_owned();
        Self {
            client: client.clone(),
            path,
        }
    }

    /// The same upload, for somebody else or on another server.
    #[must_use]
    pub fn through(&self, client: &Client) -> Self {
        Self {
            client: client.clone(),
            path: self.path.clone(),
        }
    }

    /// The upload's id, which is its LoRA's.
    pub fn id(&self) -> &str {
        self.path
            .rsplit('/')
            .next()
            .expect("a path has a last part")
    }

    /// A request about it.
    pub fn request(&self, method: Method) -> RequestBuilder {
        self.client
            .at(method, &self.path)
            .header("tus-resumable", "1.0.0")
    }

    /// Asks where it stands.
    pub async fn head(&self) -> Answer {
        self.client.send(self.request(Method::HEAD)).await
    }

    /// How many of its bytes are there.
    pub async fn offset(&self) -> usize {
        let answer = self.head().await;
        assert!(answer.status.is_success(), "{}", answer.status);
        offset_of(&answer)
    }

    /// Sends bytes that begin at an offset.
    pub async fn append(&self, offset: usize, bytes: &[u8]) -> Answer {
        let request = self
            .request(Method::PATCH)
            .header("content-type", "application/offset+octet-stream")
            .header("upload-offset", offset)
            .body(bytes.to_vec());
        self.client.send(request).await
    }

    /// Sends a piece, all of which must be taken; gives the offset after it.
    pub async fn add(&self, offset: usize, bytes: &[u8]) -> usize {
        let answer = self.append(offset, bytes).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        let reached = offset_of(&answer);
        assert_eq!(reached, offset + bytes.len());
        reached
    }

    /// Gives it up.
    pub async fn terminate(&self) -> Answer {
        self.client.send(self.request(Method::DELETE)).await
    }

    /// Announces bytes to `server`, such as `http://127.0.0.1:8080`, and sends `sent` of them. Dropping
    /// the connection hangs up.
    pub async fn begin_patch(
        &self,
        server: &str,
        offset: usize,
        bytes: &[u8],
        sent: usize,
    ) -> TcpStream {
        let head = format!(
            "PATCH {} HTTP/1.1\r\nHost: atelier\r\nAuthorization: Bearer {}\r\n\
             Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n\
             Upload-Offset: {offset}\r\nContent-Length: {}\r\n\r\n",
            self.path,
            self.client.person().token,
            bytes.len(),
        );
        let address = server.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let sent = bytes.get(..sent).expect("a part of the bytes");
        stream.write_all(sent).await.expect("it reads");
        stream.flush().await.expect("it reads");
        stream
    }
}

/// The header `Upload-Offset`.
#[track_caller]
pub fn offset_of(answer: &Answer) -> usize {
    let offset = answer.header("upload-offset");
    offset.parse().expect("a number of bytes")
}
