//! What the developer's commands and the integration tests share.
pub mod lab;
