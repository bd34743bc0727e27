//! The assets of the pages: names, caching and size of the stylesheet, the script and the logo.

use super::{cluster, visitor::Visitor};
use crate::harness::test_cluster::Node;

/// The paths of the assets in the attributes of a page.
fn asset_paths(html: &str) -> Vec<String> {
    let paths = html.split('"').filter(|part| part.starts_with("/account/assets/"));
    paths.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_are_immutable_under_names_with_their_digest() {
    let mut cluster = cluster();
    let logo = cluster.folder().join("logo.svg");
    std::fs::write(&logo, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'/>").unwrap();
    cluster.config.pages.logo = Some(logo);
    let node = cluster.node().await;
    let mut visitor = Visitor::new(&node);
    let page = visitor.open("/account/sign-in").await.expect(200);
    let paths = asset_paths(&page.text);
    assert_eq!(paths.len(), 3, "a stylesheet, a script and a logo: {paths:?}");
    for path in &paths {
        let file = visitor.open(path).await.expect(200);
        assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable", "{path}");
        assert_eq!(file.headers.get("set-cookie"), None, "{path}");
        let with_another_digest = path.replace('-', "-0");
        visitor.open(&with_another_digest).await.expect(404);
    }
    // A browser that opens an SVG as a page would run its scripts.
    let logo_path = paths.iter().find(|path| path.ends_with(".svg")).unwrap();
    let logo = visitor.open(logo_path).await;
    assert!(logo.header("content-security-policy").starts_with("default-src 'none'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn first_visit_transfers_less_than_25_kilobytes() {
    let cluster = cluster();
    let node = cluster.node().await;
    let mut visitor = Visitor::new(&node);
    visitor.headers = vec![("accept-encoding", "gzip, deflate, br".to_owned())];
    let page = visitor.open("/account/sign-in").await.expect(200);
    // The page itself is not compressed.
    let mut bytes = page.text.len();
    for path in asset_paths(&page.text) {
        let file = visitor.open(&path).await.expect(200);
        assert_eq!(file.header("content-encoding"), "gzip", "{path}");
        bytes += file.header("content-length").parse::<usize>().unwrap();
    }
    assert!(bytes < 25_000, "{bytes}");
    assert!(bytes > 5_000, "assets are missing from the count: {bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_colours_are_in_the_stylesheet_and_change_its_name() {
    let mut cluster = cluster();
    let plain = cluster.node().await;
    cluster.config.pages.accent = latchkey::config::Colour::parse("#003366");
    let coloured = cluster.node().await;
    let (plain_path, plain_style) = stylesheet(&plain).await;
    let (coloured_path, coloured_style) = stylesheet(&coloured).await;
    assert_ne!(plain_path, coloured_path);
    assert!(!plain_style.contains("--accent:#003366"));
    assert!(coloured_style.contains("--accent:#003366"));
}

/// The path and the text of a node's stylesheet.
async fn stylesheet(node: &Node) -> (String, String) {
    let mut visitor = Visitor::new(node);
    let page = visitor.open("/account/sign-in").await.expect(200);
    let path = asset_paths(&page.text).into_iter().find(|path| path.ends_with(".css")).unwrap();
    let style = visitor.open(&path).await.expect(200);
    (path, style.text)
}
