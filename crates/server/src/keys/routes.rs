//! All routes that are served, read off the router itself: for the page that lists them, and for the tests that try
//! every one of them.

use std::collections::BTreeMap;

use axum::http::Method;

use crate::http;
use crate::keys::scope::{Asks, asks};

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// With its parameters in braces.
    pub path: String,
    pub method: String,
}

impl Route {
    pub fn asks(&self) -> Option<Asks> {
        let method = Method::from_bytes(self.method.as_bytes()).ok()?;
        asks(&method, &self.path)
    }
}

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
/// What a route that takes any method is tried with.
const ANY: [&str; 3] = ["GET", "POST", "DELETE"];

/// The router lists its routes only in its debug form, whose shape is no promise of its makers. Whoever uses this list
/// holds it against routes that are certainly there.
pub fn routes() -> Vec<Route> {
    let text = format!("{:?}", http::doors());
    // What follows says what happens to everything else.
    let text = text.split("fallback_router").next().unwrap_or_default();
    let paths = paths(text);
    let mut routes = Vec::new();
    for (id, path) in paths {
        let Some(at) = text.find(&format!("RouteId({id}): MethodRouter(")) else { continue };
        let end = text[at..].find("allow_header").map_or(text.len(), |it| at + it);
        let endpoint = &text[at..end];
        let own = |it: &&str| {
            let field = format!(" {it}: ");
            endpoint.find(&field).is_some_and(|n| !endpoint[n + field.len()..].starts_with("None"))
        };
        let own: Vec<String> = METHODS.iter().copied().filter(own).map(str::to_uppercase).collect();
        let methods = if own.is_empty() { ANY.map(str::to_owned).to_vec() } else { own };
        routes.extend(methods.into_iter().map(|method| Route { path: path.clone(), method }));
    }
    routes.sort();
    routes
}

/// `paths: {RouteId(0): "/livez", ...}`
fn paths(text: &str) -> BTreeMap<u32, String> {
    let mut paths = BTreeMap::new();
    for piece in text.split("RouteId(").skip(1) {
        let path = piece.split_once("): \"").and_then(|(id, rest)| {
            let id = id.parse::<u32>().ok()?;
            Some((id, rest.split_once('"')?.0.to_owned()))
        });
        paths.extend(path);
    }
    paths
}
