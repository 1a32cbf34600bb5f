package main

// Sends that nobody receives.

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

func init() {
	mistake("send-early-return", leakSendEarlyReturn, fixedSendEarlyReturn)
	mistake("send-after-timeout", leakSendAfterTimeout, fixedSendAfterTimeout)
	mistake("first-of-replicas", leakFirstOfReplicas, fixedFirstOfReplicas)
	mistake("fan-out-early-return", leakFanOut, fixedFanOut)
	mistake("generator-abandoned", leakGenerator, fixedGenerator)
}

func recommend(user string) string { return "recommended for " + user }

// What comes back is wanted only of users who are logged in, which is looked at after the question was asked.
func leakSendEarlyReturn(w http.ResponseWriter, r *http.Request) {
	recommended := make(chan string)
	user := r.URL.Query().Get("user")
	go func() { // CREATES: send-early-return
		recommended <- recommend(user) // PARKS: send-early-return
	}()
	if user == "" {
		fmt.Fprintln(w, "welcome, stranger")
		return
	}
	fmt.Fprintln(w, <-recommended)
}

func fixedSendEarlyReturn(w http.ResponseWriter, r *http.Request) {
	recommended := make(chan string, 1)
	user := r.URL.Query().Get("user")
	go func() {
		recommended <- recommend(user)
	}()
	if user == "" {
		fmt.Fprintln(w, "welcome, stranger")
		return
	}
	fmt.Fprintln(w, <-recommended)
}

var queries atomic.Int64

// Every third query is far slower than anybody waits.
func query() int64 {
	number := queries.Add(1)
	if number%3 == 0 {
		time.Sleep(time.Second)
	}
	return number
}

func leakSendAfterTimeout(w http.ResponseWriter, r *http.Request) {
	result := make(chan int64)
	go func() { // CREATES: send-after-timeout
		result <- query() // PARKS: send-after-timeout
	}()
	select {
	case number := <-result:
		fmt.Fprintln(w, number)
	case <-time.After(400 * time.Millisecond):
		fmt.Fprintln(w, "try again later")
	}
}

func fixedSendAfterTimeout(w http.ResponseWriter, r *http.Request) {
	result := make(chan int64, 1)
	go func() {
		result <- query()
	}()
	select {
	case number := <-result:
		fmt.Fprintln(w, number)
	case <-time.After(400 * time.Millisecond):
		fmt.Fprintln(w, "try again later")
	}
}

var replicas = []string{"north", "south", "west"}

func ask(replica string) string { return "answer of " + replica }

// The first answer wins; those of the others have nowhere to go.
func leakFirstOfReplicas(w http.ResponseWriter, r *http.Request) {
	answers := make(chan string)
	for _, replica := range replicas {
		go func() { // CREATES: first-of-replicas
			answers <- ask(replica) // PARKS: first-of-replicas
		}()
	}
	fmt.Fprintln(w, <-answers)
}

func fixedFirstOfReplicas(w http.ResponseWriter, r *http.Request) {
	answers := make(chan string, len(replicas))
	for _, replica := range replicas {
		go func() {
			answers <- ask(replica)
		}()
	}
	fmt.Fprintln(w, <-answers)
}

func validate(part string) error { return errors.New(part + " is not valid") }

// The first error is enough to refuse the order, so that the other checks are not waited for.
func leakFanOut(w http.ResponseWriter, r *http.Request) {
	parts := []string{"address", "payment", "articles", "voucher"}
	errs := make(chan error)
	for _, part := range parts {
		go func() { errs <- validate(part) }() // CREATES: fan-out-early-return PARKS: fan-out-early-return
	}
	for range parts {
		if err := <-errs; err != nil {
			fmt.Fprintln(w, err)
			return
		}
	}
}

func fixedFanOut(w http.ResponseWriter, r *http.Request) {
	parts := []string{"address", "payment", "articles", "voucher"}
	errs := make(chan error, len(parts))
	for _, part := range parts {
		go func() { errs <- validate(part) }()
	}
	for range parts {
		if err := <-errs; err != nil {
			fmt.Fprintln(w, err)
			return
		}
	}
}

func pages() <-chan int {
	pages := make(chan int)
	go func() { // CREATES: generator-abandoned
		defer close(pages)
		for page := 1; page <= 100; page++ {
			pages <- page // PARKS: generator-abandoned
		}
	}()
	return pages
}

// Finds what it looks for on page 3 and does not read on.
func leakGenerator(w http.ResponseWriter, r *http.Request) {
	for page := range pages() {
		if page == 3 {
			fmt.Fprintln(w, "found on page", page)
			break
		}
	}
}

func pagesUntil(done <-chan struct{}) <-chan int {
	pages := make(chan int)
	go func() {
		defer close(pages)
		for page := 1; page <= 100; page++ {
			select {
			case pages <- page:
			case <-done:
				return
			}
		}
	}()
	return pages
}

func fixedGenerator(w http.ResponseWriter, r *http.Request) {
	done := make(chan struct{})
	defer close(done)
	for page := range pagesUntil(done) {
		if page == 3 {
			fmt.Fprintln(w, "found on page", page)
			break
		}
	}
}
