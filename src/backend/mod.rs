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
pub use lifted::{CarryingRule, EndpointLoad, LiftedName, LiftedPolicies, LiftedPort, LiftedVip, Place};
pub use owned::{chain_scope, holds_ours, scope, strangers};
pub use server_change::server_changes;
pub use table_change::table_changes;

use crate::program::Tag;
use crate::resolve::{NodeView, PortView};

/// The Service ports of a view, each with the tag of what is made for it: its place in `view.ports`.
fn tagged_ports(view: &NodeView) -> impl Iterator<Item = (Tag, &PortView)> {
    let tag = |index| Tag(u32::try_from(index).unwrap_or(u32::MAX));
    view.ports.iter().enumerate().map(move |(index, port)| (tag(index), port))
}
