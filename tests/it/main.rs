//! The one test binary.

mod rig;
