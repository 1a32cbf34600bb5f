module leakprobe.test/corpus

go 1.27
