//! The few ways in which text stands out on a terminal.

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    /// What is there to be found, not to be read.
    Dim,
    /// What makes the report worth less than it looks.
    Warning,
}

/// Puts styles around text, if the output takes them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    pub(super) color: bool,
}

impl Paint {
    /// `text` in `style`. Pad before: a terminal does not count the escape sequences, `format!` does.
    pub(super) fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Warning => "33",
            Style::Plain => "",
        };
        if self.color && !code.is_empty() && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.paint(Style::Bold, text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.paint(Style::Dim, text)
    }

    pub(super) fn warning(self, text: &str) -> String {
        self.paint(Style::Warning, text)
    }
}
