//go:build !go1.23

package kinds

func startNewer() {}
