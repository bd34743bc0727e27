//! Which paths there are, and which methods they have: what 405 and the log need to know of the API.

use std::collections::BTreeMap;

use poem_openapi::{OpenApi, OpenApiService};

/// For each path of the API, as a template, the methods that it has.
pub struct Paths(BTreeMap<String, Vec<String>>);

impl Paths {
    /// Those of a service.
    pub fn of<T: OpenApi>(_: &OpenApiService<T, ()>) -> Self {
        let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in T::meta().into_iter().flat_map(|api| api.paths) {
            let methods = path.operations.iter().map(|operation| operation.method.to_string());
            paths.entry(path.path).or_default().extend(methods);
        }
        paths.values_mut().for_each(|methods| methods.sort());
        Self(paths)
    }

    /// What a 405 at this path says in `Allow` (RFC 9110, section 10.2.1).
    pub fn methods(&self, path: &str) -> String {
        let known = self.0.iter().filter(|(template, _)| matches(template, path));
        let methods: Vec<&str> = known.flat_map(|(_, methods)| methods.iter().map(String::as_str)).collect();
        if methods.is_empty() { "GET".to_owned() } else { methods.join(", ") }
    }

    /// The path of a request as the log names it: the template it fits, so that the log holds no end of names.
    pub fn route(&self, path: &str) -> &str {
        let pages = super::PAGES.iter().copied();
        let mut known = self.0.keys().map(String::as_str).chain(pages);
        known.find(|template| matches(template, path)).unwrap_or("unknown")
    }
}

fn matches(template: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    template.split('/').all(|part| parts.next().is_some_and(|given| part == given || part.starts_with('{')))
        && parts.next().is_none()
}
