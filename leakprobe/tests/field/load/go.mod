module leakprobe.test/load

go 1.21
