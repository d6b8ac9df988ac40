//! A compiler and inspector for Kubernetes Services.
//!
//! Manifests flow down, the live kernel flows up, and they meet in one typed value:
//!
//! ```text
//!   files ─ manifest ─▶ model ─ resolve ─▶ NodeView ─ backend ─▶ Program (wanted) ─┐
//!                                                                                   ├─ plan ─▶ Steps ─ host ─▶ kernel
//!   kernel, dumps ─ host, program::*::parse ─────────────────▶ Program (live) ─────┘
//! ```
//!
//! Everything that a user asks for is a function of programs. The modules stand in reading order; `ARCHITECTURE.md` says
//! what each may use.

pub mod backend;
pub mod cli;
pub mod command;
pub mod diagnostic;
pub mod host;
pub mod inspect;
pub mod manifest;
pub mod model;
pub mod net;
pub mod packet;
pub mod pipeline;
pub mod plan;
pub mod program;
pub mod report;
pub mod resolve;
pub mod telemetry;
pub mod trace;
pub mod verify;
