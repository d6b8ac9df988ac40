//! The one integration test binary.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests read files and run programs")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests may")]

#[cfg_attr(not(feature = "kube"), allow(dead_code))]
mod api_server;
mod cases;
mod cli;
mod cli_diff;
mod cli_ipvs;
#[cfg(feature = "kube")]
mod cluster;
mod deploy;
mod errors;
mod explain;
mod generated;
mod given;
mod host_live;
mod http;
mod inspect;
mod ipset_text;
mod layouts;
mod licences;
mod live;
mod mutants;
mod nft_text;
mod nft_wire;
mod process;
mod properties;
mod readme;
mod recordings;
mod recordings_ipvs;
mod recordings_nft;
#[cfg_attr(not(feature = "kube"), allow(dead_code))]
mod replay;
mod rig;
mod run;
mod run_cluster;
mod tidy;
mod tools;
mod trace;
mod uml;
mod verify;
mod verify_cli;
