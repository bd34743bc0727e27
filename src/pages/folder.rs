//! The files that an operator configures: `pages.templates` and `pages.logo`.

use std::{collections::BTreeMap, fs, path::Path};

use super::{assets::Asset, catalog::Catalog, render::PagesError};
use crate::domain::locale::Locale;

/// The maximum size of a file in `pages.templates`, and of the logo, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Refuses a file that is larger than [`MAX_FILE_BYTES`].
fn check_size(path: &Path) -> Result<(), String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE_BYTES { Err(format!("is larger than {MAX_FILE_BYTES} bytes")) } else { Ok(()) }
}

/// Reads the configured logo.
pub(super) fn load_logo(path: &Path) -> Result<Asset, PagesError> {
    let failed = |text: String| PagesError::new(format!("pages.logo: {}", path.display()), text);
    check_size(path).map_err(failed)?;
    let content = fs::read(path).map_err(|error| failed(error.to_string()))?;
    let (extension, content_type) = match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => ("svg", "image/svg+xml"),
        Some("png") => ("png", "image/png"),
        Some("webp") => ("webp", "image/webp"),
        _ => return Err(failed("must be an .svg, .png or .webp file".to_owned())),
    };
    Ok(Asset::new("logo", extension, content_type, content))
}

/// Reads the files of `pages.templates`. A template replaces the built-in one in `templates`, the texts of a language are merged into
/// its catalog, and rules are appended to the stylesheet. Each file must have the name of a built-in file, so that a misspelt name is
/// noticed.
pub(super) fn read_folder(
    folder: &Path,
    templates: &mut BTreeMap<String, String>,
    catalogs: &mut [(Locale, Catalog)],
    stylesheet: &mut String,
) -> Result<(), PagesError> {
    let error_about = |path: &Path, text: String| PagesError::new(format!("pages.templates: {}", path.display()), text);
    let unreadable = |error: std::io::Error| error_about(folder, format!("can't be read: {error}"));
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    // so that several bad files always give the same error
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_hidden_or_backup = name.starts_with('.') || name.ends_with('~');
        if is_hidden_or_backup {
            continue;
        }
        let failed = |text: String| error_about(&path, text);
        check_size(&path).map_err(failed)?;
        let source = fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
        let language = name.strip_suffix(".toml").and_then(|stem| stem.parse::<Locale>().ok());
        if name == "style.css" {
            // after the built-in rules, so that a few lines suffice
            stylesheet.push_str(&source);
        } else if let Some(language) = language {
            if let Some((_, catalog)) = catalogs.iter_mut().find(|(locale, _)| *locale == language) {
                catalog.merge(&source).map_err(failed)?;
            }
        } else if let Some(template) = templates.get_mut(&name) {
            *template = source;
        } else {
            return Err(failed("is neither style.css, nor the name of a built-in template or language".to_owned()));
        }
    }
    Ok(())
}
