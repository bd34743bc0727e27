//! The stylesheet, the script and the logo.

use super::{cluster, visitor::Visitor};

/// The paths of the assets to which attributes refer.
fn assets(html: &str) -> Vec<String> {
    let parts = html.split('"').filter(|part| part.starts_with("/account/assets/"));
    parts.map(str::to_owned).collect()
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
    let names = assets(&page.text);
    assert_eq!(names.len(), 3, "a stylesheet, a script and a logo: {names:?}");
    for name in &names {
        let file = visitor.open(name).await.expect(200);
        assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable", "{name}");
        assert_eq!(file.headers.get("set-cookie"), None, "{name}");
        // another digest
        visitor.open(&name.replace('-', "-0")).await.expect(404);
    }
    let svg = names.iter().find(|name| name.ends_with(".svg")).unwrap();
    let svg = visitor.open(svg).await;
    assert!(svg.header("content-security-policy").starts_with("default-src 'none'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn first_visit_transfers_less_than_25_kilobytes() {
    let cluster = cluster();
    let node = cluster.node().await;
    let mut visitor = Visitor::new(&node);
    visitor.headers = vec![("accept-encoding", "gzip, deflate, br".to_owned())];
    let page = visitor.open("/account/sign-in").await.expect(200);
    let mut bytes = page.text.len();
    for name in assets(&page.text) {
        let file = visitor.open(&name).await.expect(200);
        assert_eq!(file.header("content-encoding"), "gzip", "{name}");
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
    // The stylesheet's name, and whether the stylesheet has the colour.
    let mut stylesheets = Vec::new();
    for node in [&plain, &coloured] {
        let mut visitor = Visitor::new(node);
        let page = visitor.open("/account/sign-in").await.expect(200);
        let name = assets(&page.text).into_iter().find(|name| name.ends_with(".css")).unwrap();
        let style = visitor.open(&name).await.expect(200);
        stylesheets.push((name, style.text.contains("--accent:#003366")));
    }
    let [(plain_name, plain_has_it), (coloured_name, coloured_has_it)] = &stylesheets[..] else { unreachable!() };
    assert_ne!(plain_name, coloured_name);
    assert!(!plain_has_it && *coloured_has_it);
}
