//! A compiler and inspector for Kubernetes Services.

pub mod net;
pub mod diagnostic;
pub mod packet;
pub mod model;
pub mod manifest;
pub mod resolve;
pub mod program;
