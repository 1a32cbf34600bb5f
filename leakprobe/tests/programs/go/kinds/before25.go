//go:build !go1.25

package kinds

func startBubble() {}
