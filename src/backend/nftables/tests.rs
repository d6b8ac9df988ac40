//! The lowering in detail.
