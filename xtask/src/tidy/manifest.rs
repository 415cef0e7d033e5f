//! As much TOML as a manifest's dependencies need.

/// A dependency that is built into the crate; those of tests are not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    /// The package, also where the manifest gives it another name.
    pub(super) package: String,
    /// Where it stands, from 1.
    pub(super) line: usize,
}

pub(super) fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    let mut section = Section::Other;
    for (at, line) in manifest.lines().enumerate() {
        let line_no = at + 1;
        let line = line.split('#').next().unwrap_or(line).trim();
        if let Some(header) = line.strip_prefix('[') {
            section = Section::of(header.trim_matches(['[', ']']));
            if let Section::One(name) = &section {
                found.push(Dependency { package: name.clone(), line: line_no });
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        match &section {
            Section::Table => {
                let name = key.split('.').next().unwrap_or(key).trim().trim_matches('"');
                let package = renamed(value).unwrap_or_else(|| name.to_owned());
                found.push(Dependency { package, line: line_no });
            }
            Section::One(_) if key.trim() == "package" => {
                let package = value.trim().trim_matches('"').to_owned();
                found.push(Dependency { package, line: line_no });
            }
            Section::One(_) | Section::Other => {}
        }
    }
    found
}

/// Does it take the workspace's lints?
pub(super) fn takes_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim);
    lines.any(|it| it == "[lints]") && lines.next() == Some("workspace = true")
}

enum Section {
    /// `[dependencies]`: a dependency per line.
    Table,
    /// `[dependencies.name]`
    One(String),
    Other,
}

impl Section {
    fn of(header: &str) -> Section {
        // `target.'cfg(unix)'.dependencies` counts like `dependencies`.
        for kind in ["dependencies", "build-dependencies"] {
            if header == kind
                || header.starts_with("target.") && header.ends_with(&format!(".{kind}"))
            {
                return Section::Table;
            }
            if let Some(name) = header.strip_prefix(&format!("{kind}.")) {
                return Section::One(name.trim_matches('"').to_owned());
            }
        }
        Section::Other
    }
}

/// `{ package = "name", ... }`
fn renamed(value: &str) -> Option<String> {
    let (_, rest) = value.split_once("package")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?;
    rest.split('"').next().map(str::to_owned)
}
