//! The walls between the crates, and the house rules that a compiler does not know.
//!
//! Each message names a place and says what to do. A line that must break a rule says so, with its reason, in a
//! comment on it or on the line before: `// tidy allows sleep: the other process has no way to call back`.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Done, shell};

mod manifest;
mod arrows;
mod scan;
mod source;
mod papers;

pub(crate) fn run(arguments: &[String]) -> Done {
    if let Some(unknown) = arguments.first() {
        return Err(format!("`{unknown}`: tidy takes no arguments"));
    }
    let tree = Tree::load(&shell::root())?;
    let problems = check(&tree);
    for problem in &problems {
        eprintln!("{problem}");
    }
    match problems.len() {
        0 => {
            println!("tidy: {} files, every wall stands", tree.files.len());
            Ok(())
        }
        1 => Err("1 problem".to_owned()),
        n => Err(format!("{n} problems")),
    }
}

fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    arrows::check(tree, &mut problems);
    source::check(tree, &mut problems);
    papers::check(tree, &mut problems);
    problems.sort();
    problems
}

/// The files that tidy reads, in order: Rust, Python, Markdown, manifests, the lock.
#[derive(Debug)]
struct Tree {
    root: PathBuf,
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
}

impl Tree {
    fn load(root: &Path) -> Result<Tree, String> {
        let mut files = Vec::new();
        for path in shell::files(root)? {
            let name = path.to_string_lossy().replace('\\', "/");
            let read = ["rs", "py", "md", "toml", "lock"]
                .iter()
                .any(|it| path.extension().is_some_and(|ext| ext == *it));
            if read {
                files.push(File { text: shell::read(&root.join(&path))?, path: name });
            }
        }
        Ok(Tree { root: root.to_owned(), files })
    }

    fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|it| it.path == path)
    }
}

/// One broken rule, where it is broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    path: String,
    /// From 1.
    line: usize,
    says: String,
}

impl Problem {
    fn new(file: &File, line: usize, says: impl Into<String>) -> Problem {
        Problem { path: file.path.clone(), line, says: says.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.says)
    }
}

#[cfg(test)]
mod tests;
