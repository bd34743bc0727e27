//! Chromium's virtual authenticator.
