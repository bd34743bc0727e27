//! The packages of a release, and the node under systemd and in containers.

mod deployments;
mod printed;
mod site;
mod systemd;
mod tarball;
