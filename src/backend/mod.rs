//! NodeView → Program: how each mode expresses the decisions of `resolve`, and how its rules are read back to Services.
//! No backend asks about a traffic policy, and none reads live state.

mod answerers;
mod change;
mod hash;
pub mod iptables;
pub mod ipvs;
mod layout;
mod lifted;
pub mod nftables;
mod owned;
mod server_change;
mod skeleton;
mod table_change;
pub mod userspace;

pub use answerers::answerers;
pub use change::{ChainDelta, Changes, ObjectChange, PortChange, changes, leftovers};
pub use layout::Layout;
pub use lifted::{CarryingRule, EndpointLoad, LiftedName, LiftedPolicies, LiftedPort, LiftedVip};
pub use owned::{chain_scope, holds_ours, scope, strangers};
pub use server_change::server_changes;
pub use table_change::table_changes;
