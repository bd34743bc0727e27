//! QR codes as SVG. The SVG has no styles, because the content security policy of pages forbids inline styles.

use std::fmt::Write;

use qrcode::{Color, EcLevel, QrCode};

/// The quiet zone around the code, in modules: the squares of the code (ISO/IEC 18004, section 7.3.7).
const QUIET_ZONE_MODULES: usize = 4;

/// The SVG element of a QR code, labelled by the page's element `qr-label`. None if the text is too long for a QR code.
pub fn qr_code(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::M).ok()?;
    let (width, modules) = (code.width(), code.to_colors());
    let size = width + 2 * QUIET_ZONE_MODULES;
    let mut path = String::new();
    for (y, row) in modules.chunks(width).enumerate() {
        let mut x = 0;
        while x < width {
            let run_length = row[x..].iter().take_while(|module| **module == Color::Dark).count();
            // a rectangle for each run of dark modules in a row
            if run_length > 0 {
                let (left, top) = (x + QUIET_ZONE_MODULES, y + QUIET_ZONE_MODULES);
                let _ = write!(path, "M{left} {top}h{run_length}v1h-{run_length}z");
            }
            // skips the run, or one light module
            x += run_length.max(1);
        }
    }
    Some(format!(
        "<svg class=\"qr\" viewBox=\"0 0 {size} {size}\" role=\"img\" aria-labelledby=\"qr-label\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{size}v{size}H0z\"/><path fill=\"#000\" \
         d=\"{path}\"/></svg>"
    ))
}
