//! Tests the packages of a release, the documentation site, and nodes under systemd and in containers.

mod deployments;
mod printed;
mod site;
mod systemd;
mod tarball;
