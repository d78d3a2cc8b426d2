//! An HTTP client that speaks as one person.

use reqwest::header::HeaderMap;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use atelier_testkit::build::safetensors_bytes;

use crate::people::Person;

const API: &str = "/api/v1/comfyui";

/// A client of one server, signed in as one person.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    server: String,
    person: Option<Person>,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// A header, which must be there.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name} ({}): {}", self.status, self.text()))
            .to_str()
            .expect("ASCII")
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|_| panic!("no JSON ({}): {}", self.status, self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The body as JSON, of an answer with this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        if self.bytes.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// The problem (RFC 9457) of an answer with this status and code.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Value {
        let content_type = self.headers.get("content-type").cloned();
        let problem = self.expect(status);
        assert_eq!(
            content_type.and_then(|value| value.to_str().map(str::to_owned).ok()),
            Some("application/problem+json".to_owned()),
            "{problem}"
        );
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        problem
    }

    /// The pointers of a problem's errors.
    #[track_caller]
    pub fn expect_pointers(self, status: u16, code: &str) -> Vec<String> {
        self.expect_problem(status, code)["errors"]
            .as_array()
            .expect("a list of errors")
            .iter()
            .map(|error| error["pointer"].as_str().expect("a pointer").to_owned())
            .collect()
    }
}

impl Client {
    /// Speaks to `server`, such as `http://127.0.0.1:8080`, as `person`, or as nobody.
    pub fn new(server: &str, person: Option<Person>) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("a client without TLS settings");
        Self {
            http,
            server: server.to_owned(),
            person,
        }
    }

    /// The same server, as somebody else.
    #[must_use]
    pub fn as_person(&self, person: Person) -> Self {
        Self {
            person: Some(person),
            ..self.clone()
        }
    }

    /// The same person at another server, such as `http://127.0.0.1:8081`.
    #[must_use]
    pub fn at_server(&self, server: &str) -> Self {
        Self {
            server: server.to_owned(),
            ..self.clone()
        }
    }

    /// Who speaks.
    pub fn person(&self) -> &Person {
        self.person.as_ref().expect("somebody is signed in")
    }

    /// A request to a path below the API.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.at(method, &format!("{API}{path}"))
    }

    /// A request to a path of the server.
    pub fn at(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.server));
        match &self.person {
            Some(person) => request.bearer_auth(&person.token),
            None => request,
        }
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.attempt(request).await.expect("the server answers")
    }

    /// The same with a server that may be gone, or go away meanwhile.
    ///
    /// # Errors
    /// Why there is no whole answer.
    pub async fn attempt(&self, request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        Ok(Answer {
            status: response.status(),
            headers: response.headers().clone(),
            bytes: response.bytes().await?.into(),
        })
    }

    /// `GET` below the API.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// `DELETE` below the API.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// `POST` of a JSON document below the API.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `PUT` of a JSON document below the API.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// `PATCH` with a merge patch below the API.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(body))
            .await
    }

    /// Stores a workflow and gives its id.
    pub async fn create_workflow(&self, graph: &Value, is_public: bool) -> String {
        let body = json!({"name": "A workflow", "workflow_json": graph, "is_public": is_public});
        let workflow = self.post("/workflows", &body).await.expect(201);
        id_of(&workflow)
    }

    /// Uploads a LoRA.
    pub async fn upload_lora(&self, filename: &str, bytes: Vec<u8>) -> Answer {
        let file = Part::bytes(bytes).file_name(filename.to_owned());
        let form = Form::new().part("file", file);
        self.send(self.request(Method::POST, "/loras").multipart(form))
            .await
    }

    /// Uploads a LoRA whose bytes depend on `fill`, and gives it.
    pub async fn add_lora(&self, filename: &str, fill: u8) -> Value {
        let bytes = safetensors_bytes(fill).to_vec();
        self.upload_lora(filename, bytes).await.expect(201)
    }

    /// Uploads a picture for graphs to load.
    pub async fn upload_input(&self, filename: &str, bytes: Vec<u8>) -> Answer {
        let file = Part::bytes(bytes).file_name(filename.to_owned());
        let form = Form::new().part("file", file);
        self.send(self.request(Method::POST, "/inputs").multipart(form))
            .await
    }

    /// Stores a private workflow, runs it and waits for its end; gives the run.
    pub async fn run_to_the_end(&self, graph: &Value) -> Value {
        let workflow = self.create_workflow(graph, false).await;
        let run = self.start_run(&workflow, &json!({})).await;
        self.finished_run(&run).await
    }

    /// The bytes of an output of a run.
    pub async fn output(&self, run: &Value, index: usize) -> Vec<u8> {
        let url = run["outputs"][index]["url"].as_str().expect("an address");
        let answer = self.send(self.at(Method::GET, url)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.bytes
    }

    /// Starts a run and gives its id.
    pub async fn start_run(&self, workflow_id: &str, input_params: &Value) -> String {
        let body = json!({"input_params": input_params});
        let path = format!("/workflows/{workflow_id}/run");
        id_of(&self.post(&path, &body).await.expect(202))
    }

    /// Waits until a run is over, for at most about a minute, and gives it.
    pub async fn finished_run(&self, run_id: &str) -> Value {
        let mut last = Value::Null;
        for _ in 0..6 {
            last = self
                .get(&format!("/runs/{run_id}?wait=10"))
                .await
                .expect(200);
            let status = last["status"].as_str().unwrap_or_default();
            if matches!(status, "completed" | "failed" | "cancelled") {
                return last;
            }
        }
        panic!("the run is not over after a minute: {last}");
    }
}

/// The id of a resource.
#[track_caller]
pub fn id_of(resource: &Value) -> String {
    resource["id"].as_str().expect("an id").to_owned()
}
