//! One frame of a symbolised stack.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GoFrame, StackId};

/// Symbolised stacks: for each stack the places of its frames, innermost first.
pub trait Frames {
    /// The frames of `stack`; empty if it has none.
    fn of(&self, stack: StackId) -> &[u32];
}

/// A function on a stack, with as much of its origin as could be found out.
///
/// A frame without a function name has `function` empty and says in `unknown` why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// The function's demangled name; empty if it is not known.
    #[serde(default)]
    pub function: String,
    /// Source file, if debug information tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Path of the module (executable, library, `[vdso]`, `[jit]`, `[kernel]`) that the address lies in; `[anon]`: memory that belongs to no
    /// file; empty if it lies in none.
    #[serde(default)]
    pub module: String,
    /// The address within the module, as `0x…`: stable over runs, as addresses in memory are not. In `[jit]` and `[anon]` it is
    /// that in memory.
    #[serde(default)]
    pub address: String,
    /// Whether the compiler inlined this function into the frame that follows.
    #[serde(default)]
    pub inlined: bool,
    /// Why the function's name is not known, or, of an interpreter, that of the function that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Of a function without a name: the one that its caller called, which went on to it by a jump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called_as: Option<String>,
    /// What the Go runtime knows of it, if it is Go's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub go: Option<GoFrame>,
}

impl Frame {
    /// How many bytes its texts have.
    #[must_use]
    pub fn text_len(&self) -> usize {
        let optional = [&self.file, &self.unknown, &self.called_as].map(|text| text.as_ref().map_or(0, String::len));
        self.function.len() + self.module.len() + self.address.len() + optional.iter().sum::<usize>()
    }

    /// The module's file name.
    #[must_use]
    pub fn module_name(&self) -> &str {
        self.module.rsplit('/').next().unwrap_or(&self.module)
    }

    /// What there is to say of a frame that does not tell which function runs; empty if it does.
    #[must_use]
    pub fn remark(&self) -> String {
        let called = self.called_as.as_ref().map(|name| format!("called as {name}"));
        let parts: Vec<&str> = called.as_deref().into_iter().chain(self.unknown.as_deref()).collect();
        parts.join("; ")
    }

    /// How the frame is shown: the function, or else `[module+address]`.
    #[must_use]
    pub fn label(&self) -> String {
        if !self.function.is_empty() {
            self.function.clone()
        } else if self.module.is_empty() {
            format!("[unknown {}]", self.address)
        } else {
            let module = self.module_name();
            // `[anon]` and `[vdso]` have brackets already.
            let plain = module.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(module);
            format!("[{plain}+{}]", self.address)
        }
    }
}
