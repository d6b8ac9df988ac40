//! NodeView → Program: how each mode expresses the decisions of `resolve`, and how its rules are read back to Services.
//! No backend asks about a traffic policy, and none reads live state.

mod change;
mod hash;
pub mod iptables;
mod lifted;

pub use change::{ChainDelta, Changes, PortChange, changes};
pub use lifted::{LiftedName, LiftedPort, LiftedVip};
