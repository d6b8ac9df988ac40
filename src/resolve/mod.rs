//! Cluster × Node × IpFamily → NodeView: every decision is taken here, and nowhere else.

mod fate;
mod view;

pub use fate::{fate, fate_remembered};
pub use view::{
    Frontend, FrontendKind, LocalTraffic, NodePortScope, NodeView, PoolEndpoint, PoolKind, PortView, Route,
    Routes, SourceRanges, Vip,
};
