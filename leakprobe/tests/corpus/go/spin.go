package main

// What never rests, so that it waits nowhere.

import "net/http"

func init() {
	cases["spin"] = map[string]http.HandlerFunc{"restless": beginSpinning}
}

func beginSpinning(http.ResponseWriter, *http.Request) { go spin() }

func spin() {
	for {
		spun++
	}
}

var spun uint64
