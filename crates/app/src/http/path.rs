//! Ids in the path.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use std::future::{Ready, ready};
use uuid::Uuid;

use super::problem::{Problem, ProblemCode};
use atelier_domain::validation::Violation;

/// The segments of the path, read when the handler asks: whoever is not signed
/// in learns that first.
#[derive(Debug)]
pub(crate) struct PathSegments(HttpRequest);

impl FromRequest for PathSegments {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Ok(Self(request.clone())))
    }
}

impl PathSegments {
    /// The id in segment `{id}`.
    ///
    /// # Errors
    /// `invalid-id`, 400, for anything but a UUID in its canonical form: a
    /// slip of the pen is told as one, and a thing has one address.
    pub(crate) fn id<T: From<Uuid>>(&self) -> Result<T, Problem> {
        let segment = self.segment("id");
        match Uuid::try_parse(segment) {
            Ok(id) if segment.len() == uuid::fmt::Hyphenated::LENGTH => Ok(T::from(id)),
            _ => Err(bad_segment(
                "{id}",
                "must be a UUID such as 01950000-0000-7000-8000-000000000001",
            )),
        }
    }

    /// The output's number in segment `{index}`.
    ///
    /// # Errors
    /// `invalid-id`, 400, for anything but a number.
    pub(crate) fn index(&self) -> Result<u32, Problem> {
        let segment = self.segment("index");
        match segment.parse() {
            Ok(index) if segment.bytes().all(|byte| byte.is_ascii_digit()) => Ok(index),
            _ => Err(bad_segment(
                "{index}",
                "must be the number of an output, from 0",
            )),
        }
    }

    fn segment(&self, name: &str) -> &str {
        self.0.match_info().query(name)
    }
}

fn bad_segment(segment: &str, detail: &str) -> Problem {
    Problem::new(
        ProblemCode::InvalidId,
        format!("{segment} in the path {detail}."),
    )
    .with_errors(vec![Violation::new(segment, detail)])
}
