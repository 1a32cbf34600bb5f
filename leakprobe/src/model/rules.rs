//! What its users say of a program's sites beforehand: these are known, those belong there.

use regex::Regex;

use super::{Recording, Site};

/// What a rule says of the sites that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// They fail no check.
    Ignore,
    /// They fail no check as long as there are no more tasks than so many; and they are there.
    Expect(Option<u64>),
}

/// A rule of `leakprobe.toml`. All that it names must fit.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it says.
    pub kind: RuleKind,
    /// The line on which it stands.
    pub line: usize,
    /// A function on the stack, or on the creator's.
    pub function: Option<Text>,
    /// A package of Go, or the path of a module of Rust or C++, of a function on the stack or on the creator's.
    pub package: Option<Text>,
    /// The file name of an executable or library with code on the stack.
    pub module: Option<Text>,
    /// A function on the creator's stack.
    pub creator: Option<Text>,
    /// The kind of wait, or its reason.
    pub wait: Option<Text>,
    /// The name of a thread.
    pub thread: Option<Text>,
    /// The id of the site.
    pub site: Option<Text>,
    /// Why.
    pub reason: String,
    /// The last day on which it holds.
    pub expires: Option<jiff::civil::Date>,
}

/// What a text must be like.
#[derive(Clone, Debug)]
pub enum Text {
    /// This one.
    Exact(String),
    /// One that fits.
    Regex(Regex),
}

impl Text {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

impl Rule {
    /// Whether it is about this site of `recording`.
    #[must_use]
    pub fn fits(&self, site: &Site, recording: &Recording) -> bool {
        let functions = |stack: &[u32], test: &dyn Fn(&str) -> bool| {
            let mut frames = stack.iter().filter_map(|&index| recording.frames.get(index as usize));
            frames.any(|frame| test(&frame.function))
        };
        let anywhere = |test: &dyn Fn(&str) -> bool| functions(&site.stack, test) || functions(&site.creation, test);
        let modules = |text: &Text| {
            let mut frames = site.stack.iter().filter_map(|&index| recording.frames.get(index as usize));
            frames.any(|frame| text.fits(frame.module_name()))
        };
        self.function.as_ref().is_none_or(|text| anywhere(&|function| text.fits(function)))
            && self.package.as_ref().is_none_or(|text| anywhere(&|function| text.fits(package(function))))
            && self.module.as_ref().is_none_or(modules)
            && self.creator.as_ref().is_none_or(|text| functions(&site.creation, &|function| text.fits(function)))
            && self.wait.as_ref().is_none_or(|text| text.fits(site.kind.name()) || text.fits(&site.wait))
            && self.thread.as_ref().is_none_or(|text| site.names.iter().any(|name| text.fits(name)))
            && self.site.as_ref().is_none_or(|text| text.fits(&site.id))
    }

    /// What it names, in words: `function main.worker, wait sleep`.
    #[must_use]
    pub fn words(&self) -> String {
        let named = [
            ("function", &self.function),
            ("package", &self.package),
            ("module", &self.module),
            ("creator", &self.creator),
            ("wait", &self.wait),
            ("thread", &self.thread),
            ("site", &self.site),
        ];
        let named = named.into_iter().filter_map(|(name, text)| match text.as_ref()? {
            Text::Exact(text) => Some(format!("{name} {text}")),
            Text::Regex(regex) => Some(format!("{name} /{regex}/")),
        });
        named.collect::<Vec<_>>().join(", ")
    }
}

/// The package of a Go function, as `net/http` of `net/http.(*conn).serve`; of other languages what stands before the last `::`.
pub(crate) fn package(function: &str) -> &str {
    let path = function.rfind('/').map_or(0, |slash| slash + 1);
    let name = function.get(path..).unwrap_or_default();
    if let Some(place) = name.rfind("::") {
        return function.get(..path + place).unwrap_or_default();
    }
    name.find('.').and_then(|dot| function.get(..path + dot)).unwrap_or(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_several_languages() {
        for (function, named) in [
            ("net/http.(*conn).serve", "net/http"),
            ("main.main.func1", "main"),
            ("example.org/a/b.v2/c.F", "example.org/a/b.v2/c"),
            ("tokio::runtime::park::Inner", "tokio::runtime::park"),
            ("pthread_cond_wait", "pthread_cond_wait"),
            ("", ""),
        ] {
            assert_eq!(package(function), named);
        }
    }
}
