//! What a check that takes long has passed, by the SHA-256 of all that it looks at: while that stays the same, it is not made again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::repo;

/// The SHA-256 of files and of all files below folders, with their names, as hexadecimal digits. `paths` are relative to the checkout.
/// Cargo's output folders are left out.
pub(crate) fn sum(paths: &[&str]) -> Result<String> {
    sum_below(repo::root(), paths)
}

fn sum_below(root: &Path, paths: &[&str]) -> Result<String> {
    let mut files = Vec::new();
    for path in paths {
        collect(root, Path::new(path), &mut files)?;
    }
    files.sort();
    let mut sum = Sha256::new();
    for file in files {
        let content = fs::read(root.join(&file)).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.to_string_lossy();
        // Lengths keep apart what would be the same bytes one after another.
        sum.update((name.len() as u64).to_le_bytes());
        sum.update(name.as_bytes());
        sum.update((content.len() as u64).to_le_bytes());
        sum.update(content);
    }
    Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn collect(root: &Path, path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let whole = root.join(path);
    if !whole.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(&whole).with_context(|| format!("cannot read {}", whole.display()))? {
        let name = entry.with_context(|| format!("cannot read {}", whole.display()))?.file_name();
        if name != "target" {
            collect(root, &path.join(name), files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_name_counts_and_build_output_does_not() {
        let root = std::env::temp_dir().join(format!("leakprobe-xtask-{}", std::process::id()));
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/b/one.rs", "fn one() {}");
        write("c.toml", "x");
        let sum = || sum_below(&root, &["a", "c.toml"]).unwrap();
        let before = sum();
        write("a/target/debug/x", "built");
        assert_eq!(sum(), before);
        write("a/b/one.rs", "fn two() {}");
        let changed = sum();
        assert_ne!(changed, before);
        write("a/b/one.rs", "fn one() {}");
        assert_eq!(sum(), before);
        fs::rename(root.join("a/b/one.rs"), root.join("a/b/two.rs")).unwrap();
        assert_ne!(sum(), before);
        assert!(sum_below(&root, &["missing"]).is_err());
        fs::remove_dir_all(&root).unwrap();
    }
}
