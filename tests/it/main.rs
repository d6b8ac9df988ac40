//! The one test binary.

mod host_live;
mod rig;
