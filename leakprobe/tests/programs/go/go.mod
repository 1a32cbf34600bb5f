// The Go version in here is replaced by that of each toolchain, see xtask/src/go_programs.rs.
module leakprobe.test/programs

go 1.19
