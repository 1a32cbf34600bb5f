module leakprobe.test/field

go 1.21
