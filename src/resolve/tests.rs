//! Decisions on small clusters.
