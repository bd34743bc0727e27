//! The paths of the API and their methods, for 405 responses and for the log.

use std::collections::BTreeMap;

use poem_openapi::{OpenApi, OpenApiService};

use super::pages;

/// The methods of each path of the API. Paths are templates, such as `/v1/sessions/{id}`.
pub struct Paths(BTreeMap<String, Vec<String>>);

impl Paths {
    /// Lists the paths of a service. They are part of the service's type, so the value is not used.
    pub fn of<T: OpenApi>(_service: &OpenApiService<T, ()>) -> Self {
        let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in T::meta().into_iter().flat_map(|api| api.paths) {
            let methods = path.operations.iter().map(|operation| operation.method.to_string());
            paths.entry(path.path).or_default().extend(methods);
        }
        for methods in paths.values_mut() {
            methods.sort();
        }
        Self(paths)
    }

    /// The value of `Allow` for this path (RFC 9110, section 10.2.1).
    pub fn methods(&self, path: &str) -> String {
        // the templates are sorted, and `{` sorts after letters: so the search prefers a literal part to a parameter
        if let Some((_, methods)) = self.0.iter().find(|(template, _)| matches(template, path)) {
            return methods.join(", ");
        }
        match pages::PATHS.iter().find(|(template, _)| matches(template, path)) {
            Some((_, methods)) => (*methods).to_owned(),
            // such as the paths of the documentation
            None => "GET".to_owned(),
        }
    }

    /// The name of a path in the log and the metrics: its template, so that callers cannot create unlimited names.
    pub fn route(&self, path: &str) -> &str {
        let api_paths = self.0.keys().map(String::as_str);
        let documentation_paths = super::openapi::pages::PATHS.into_iter();
        let page_paths = pages::PATHS.iter().map(|(template, _)| *template);
        let mut templates = api_paths.chain(documentation_paths).chain(page_paths);
        templates.find(|template| matches(template, path)).unwrap_or("unknown")
    }
}

/// Whether a path has the parts of a template. A parameter such as `{id}` matches any part.
fn matches(template: &str, path: &str) -> bool {
    let mut template_parts = template.split('/');
    let mut path_parts = path.split('/');
    loop {
        match (template_parts.next(), path_parts.next()) {
            (None, None) => return true,
            (Some(expected), Some(part)) if expected == part || expected.starts_with('{') => {}
            _ => return false,
        }
    }
}
