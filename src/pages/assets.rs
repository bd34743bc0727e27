//! The stylesheet, the script and the logo: files whose names contain a hash of their content, so that browsers can keep
//! them for ever.

use std::io::Write;

use aws_lc_rs::digest;
use flate2::{Compression, write::GzEncoder};
use hyper::body::Bytes;

/// A file that pages load.
#[derive(Clone, Debug)]
pub struct Asset {
    /// The name, with the hash of the content: `style-4f1d….css`.
    pub name: String,
    /// The media type.
    pub content_type: &'static str,
    /// The content, uncompressed.
    pub plain: Bytes,
    /// The content, compressed with gzip; `None` if compression does not make it smaller.
    pub gzip: Option<Bytes>,
}

impl Asset {
    pub(super) fn new(stem: &str, extension: &str, content_type: &'static str, content: Vec<u8>) -> Self {
        let digest = digest::digest(&digest::SHA256, &content);
        // 64 bits suffice to tell the versions of a file apart.
        let hash: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let compressed = encoder.write_all(&content).and_then(|()| encoder.finish()).ok();
        let gzip = compressed.filter(|compressed| compressed.len() < content.len()).map(Bytes::from);
        Self { name: format!("{stem}-{hash}.{extension}"), content_type, plain: content.into(), gzip }
    }
}

/// All files that pages load.
#[derive(Clone, Debug)]
pub struct Assets {
    /// The stylesheet.
    pub style: Asset,
    /// The script.
    pub script: Asset,
    /// The logo, if one is configured.
    pub logo: Option<Asset>,
}

impl Assets {
    /// The file with this name, hash included. A name with the hash of older content finds no file.
    pub fn find(&self, name: &str) -> Option<&Asset> {
        [Some(&self.style), Some(&self.script), self.logo.as_ref()]
            .into_iter()
            .flatten()
            .find(|asset| asset.name == name)
    }
}
