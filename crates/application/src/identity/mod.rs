//! Who sends a request, and the tokens that people make for their scripts.

mod create_token;
mod credentials;
mod remembered;
mod sign_in;

pub use create_token::{CreateToken, CreateTokenError, IssuedToken, TokenDraft};
pub use credentials::Credentials;
pub use sign_in::{AccessSignIn, SignIn, SignInError};
