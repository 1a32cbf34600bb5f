// load ADDR N [CONCURRENCY [TIMEOUT]]: N requests to a server of HTTP, and `N requests`. None may fail; a server that refuses (503)
// or, with a time-out, answers too late is no failure.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

func main() {
	args := append(os.Args[1:], "", "", "", "")
	requests, err := strconv.Atoi(args[1])
	must(err)
	workers := 1
	if args[2] != "" {
		workers, err = strconv.Atoi(args[2])
		must(err)
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	if args[3] != "" {
		client.Timeout, err = time.ParseDuration(args[3])
		must(err)
	}
	numbers := make(chan int)
	var running sync.WaitGroup
	for i := 0; i < workers; i++ {
		running.Add(1)
		go func() {
			defer running.Done()
			for n := range numbers {
				err := get(client, "http://"+args[0]+"/?"+strconv.Itoa(n))
				if args[3] == "" || !errors.Is(err, context.DeadlineExceeded) {
					must(err)
				}
			}
		}()
	}
	for n := 0; n < requests; n++ {
		numbers <- n
	}
	close(numbers)
	running.Wait()
	client.CloseIdleConnections()
	fmt.Println(requests, "requests")
}

func get(client *http.Client, url string) error {
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK && response.StatusCode != http.StatusServiceUnavailable {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return err
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
