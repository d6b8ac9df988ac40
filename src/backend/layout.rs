//! The shapes that the rules of one mode can have. They mean the same to every packet.

/// A shape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// Rule for rule what kube-proxy 1.36 makes.
    #[default]
    KubeProxy,
    /// As few objects of the kernel as there can be.
    Fast,
}
