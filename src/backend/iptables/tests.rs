//! The lowering against worked examples.
