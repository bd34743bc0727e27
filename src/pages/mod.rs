//! Pages for account owners: templates, texts, the stylesheet and the script, rendered by minijinja. `http/pages` serves them.
//!
//! Each page is a template, such as `sign_in.html`, with a typed context of its own ([`views`]). Its texts are in one file for each
//! language, such as `en.toml`. The folder of the setting `pages.templates` can replace templates, single texts and the stylesheet.
//! At start-up, all pages are rendered with sample data in every language, so that an error in one of them is reported then, and
//! not when a user needs the page.

pub mod assets;
mod catalog;
mod environment;
mod folder;
mod qr;
mod render;
mod style;
#[cfg(test)]
mod tests;
pub mod views;

pub use self::{
    assets::{Asset, Assets},
    qr::qr_code,
    render::{FormErrors, Frame, Pages, PagesError},
    views::View,
};
