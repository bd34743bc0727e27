//! Errors at the edges.
