//! Links between the papers: each leads somewhere.

use super::{File, Problem, Tree};

pub(super) fn check(tree: &Tree, problems: &mut Vec<Problem>) {
    for file in tree.files.iter().filter(|it| it.path.ends_with(".md")) {
        check_paper(tree, file, problems);
    }
}

fn check_paper(tree: &Tree, file: &File, problems: &mut Vec<Problem>) {
    let mut fenced = false;
    for (at, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for link in line.split("](").skip(1).filter_map(|it| it.split(')').next()) {
            let path = link.split('#').next().unwrap_or(link);
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let dir = file.path.rsplit_once('/').map_or("", |(dir, _)| dir);
            if !tree.root.join(dir).join(path).exists() {
                let says =
                    format!("the link to `{link}` leads nowhere; correct it or write the page");
                problems.push(Problem::new(file, at + 1, says));
            }
        }
    }
}
