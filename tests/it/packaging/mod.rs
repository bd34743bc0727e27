//! The packages of a release, and the node under systemd and in containers.

mod systemd;
mod tarball;
