//! All routes of a tenant as a tree by segment.

use std::{borrow::Cow, collections::HashMap, fmt};

use super::{
    methods::MethodSet,
    path::RequestPath,
    pattern::{RoutePattern, Segment},
};

/// Routes and what they lead to.
///
/// A lookup descends a tree with one level per segment, so its cost follows the length of the path, not the number of
/// routes; at worst it visits every node once.
#[derive(Debug)]
pub struct RouteTable<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    literals: HashMap<Box<str>, Self>,
    /// `{name}` and `*`, which match the same.
    one: Option<Box<Self>>,
    /// Routes that end here.
    ends: Vec<Route<T>>,
    /// Routes that end with `**` here.
    rests: Vec<Route<T>>,
}

#[derive(Debug)]
struct Route<T> {
    methods: MethodSet,
    pattern: RoutePattern,
    target: T,
}

/// Two routes that match the same requests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("endpoint `{new}` conflicts with `{existing}`: both would answer {methods} for the same paths")]
pub struct RouteConflict {
    /// Methods and route that were to be added.
    pub new: String,
    /// Methods and route that are there.
    pub existing: String,
    /// The methods that both have.
    pub methods: MethodSet,
}

/// Result of a lookup.
#[derive(Debug)]
pub enum Lookup<'t, T> {
    /// This route answers.
    Found(Match<'t, T>),
    /// Routes match the path, but none accepts the method; these methods would be.
    MethodNotAllowed(MethodSet),
    /// No route matches the path.
    Unknown,
}

/// A route that answers a request.
#[derive(Debug)]
pub struct Match<'t, T> {
    /// What it leads to.
    pub target: &'t T,
    /// What its `{name}` segments matched, decoded.
    pub params: Vec<(String, String)>,
    /// It accepts HEAD only because it accepts GET: the handler runs as for GET, and the body is left out.
    pub head_as_get: bool,
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: HashMap::new(), one: None, ends: Vec::new(), rests: Vec::new() }
    }
}

impl<T> RouteTable<T> {
    /// Adds a route.
    ///
    /// # Errors
    /// [`RouteConflict`] when a route that differs in placeholder names at most has one of these methods. `ANY` beside
    /// named methods is no conflict: it takes what they leave.
    pub fn insert(&mut self, methods: MethodSet, pattern: RoutePattern, target: T) -> Result<(), RouteConflict> {
        let mut node = &mut self.root;
        let mut is_rest = false;
        for segment in pattern.segments() {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.as_str().into()).or_default(),
                Segment::Named(_) | Segment::One => node.one.get_or_insert_default(),
                Segment::Rest => {
                    is_rest = true;
                    break;
                }
            };
        }
        let routes = if is_rest { &mut node.rests } else { &mut node.ends };
        if let Some(existing) = routes.iter().find(|route| !route.methods.common(methods).is_empty()) {
            return Err(RouteConflict {
                new: format!("{methods} {pattern}"),
                existing: format!("{} {}", existing.methods, existing.pattern),
                methods: existing.methods.common(methods),
            });
        }
        routes.push(Route { methods, pattern, target });
        Ok(())
    }

    /// Finds the most specific route for `path` that accepts `method` (upper case).
    #[must_use]
    pub fn find(&self, method: &str, path: &RequestPath<'_>) -> Lookup<'_, T> {
        let segments = path.segments();
        // `/demo//x` and `/demo/x` are different addresses to caches and logs; guessing that one means the other hides bugs.
        if segments.iter().any(|segment| segment.is_empty()) {
            return Lookup::Unknown;
        }
        let mut seen = MethodSet::NONE;
        match self.root.find(method, segments, &mut seen) {
            Some(route) => Lookup::Found(Match {
                target: &route.target,
                params: params_of(&route.pattern, segments),
                head_as_get: method == "HEAD" && !route.methods.is_any() && !route.methods.names("HEAD"),
            }),
            None if seen.is_empty() => Lookup::Unknown,
            None => Lookup::MethodNotAllowed(seen.with_implied()),
        }
    }

    /// All routes, in no particular order.
    pub fn targets(&self) -> Vec<&T> {
        let mut targets = Vec::new();
        self.root.collect(&mut targets);
        targets
    }
}

impl<T> Node<T> {
    /// Tries the most specific branch first; `seen` gathers the methods of routes that match all but the method.
    fn find(&self, method: &str, segments: &[Cow<'_, str>], seen: &mut MethodSet) -> Option<&Route<T>> {
        let deeper = match segments.split_first() {
            None => accepting(&self.ends, method, seen),
            Some((first, rest)) => {
                let literal = self.literals.get(first.as_ref());
                let found = literal.and_then(|node| node.find(method, rest, seen));
                found.or_else(|| self.one.as_deref().and_then(|node| node.find(method, rest, seen)))
            }
        };
        deeper.or_else(|| accepting(&self.rests, method, seen))
    }

    fn collect<'t>(&'t self, targets: &mut Vec<&'t T>) {
        targets.extend(self.ends.iter().chain(&self.rests).map(|route| &route.target));
        for node in self.literals.values().chain(self.one.as_deref()) {
            node.collect(targets);
        }
    }
}

/// Of routes that match the same paths, the one that names the method; for HEAD next the one that names GET; last ANY.
fn accepting<'t, T>(routes: &'t [Route<T>], method: &str, seen: &mut MethodSet) -> Option<&'t Route<T>> {
    let naming = |method| routes.iter().find(move |route| route.methods.names(method));
    let found = naming(method)
        .or_else(|| if method == "HEAD" { naming("GET") } else { None })
        .or_else(|| routes.iter().find(|route| route.methods.is_any()));
    if found.is_none() {
        *seen = routes.iter().fold(*seen, |seen, route| seen.union(route.methods));
    }
    found
}

fn params_of(pattern: &RoutePattern, segments: &[Cow<'_, str>]) -> Vec<(String, String)> {
    pattern
        .segments()
        .iter()
        .zip(segments)
        .filter_map(|(segment, value)| match segment {
            Segment::Named(name) => Some((name.clone(), value.as_ref().to_owned())),
            Segment::Literal(_) | Segment::One | Segment::Rest => None,
        })
        .collect()
}

impl<T> fmt::Display for RouteTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} routes", self.targets().len())
    }
}
