//! Go: what a Go program carries about itself, read from outside.

pub mod pclntab;
