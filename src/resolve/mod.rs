//! Cluster × Node × IpFamily → NodeView: every decision is taken here, and nowhere else.

mod view;

pub use view::{
    Frontend, FrontendKind, LocalTraffic, NodePortScope, NodeView, PoolEndpoint, PoolKind, PortView, Route, Routes,
    SourceRanges, Vip,
};
