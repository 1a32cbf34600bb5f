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

// Sends the requests, fails if one fails, and closes its connections. With a time after which to give up, a request may
// also end so.
func load(address, number, concurrency, giveUp string) {
	requests, err := strconv.Atoi(number)
	must(err)
	workers := 4
	if concurrency != "" {
		workers, err = strconv.Atoi(concurrency)
		must(err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	if giveUp != "" {
		client.Timeout, err = time.ParseDuration(giveUp)
		must(err)
	}
	numbers := make(chan int)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for n := range numbers {
				err := request(client, address, n)
				if giveUp == "" || !errors.Is(err, context.DeadlineExceeded) {
					must(err)
				}
			}
		})
	}
	for n := range requests {
		numbers <- n
	}
	close(numbers)
	running.Wait()
	client.CloseIdleConnections()
	fmt.Println(requests, "requests")
}

// Each request is that of another client.
func request(client *http.Client, address string, number int) error {
	request, err := http.NewRequest("GET", "http://"+address+"/", nil)
	if err != nil {
		return err
	}
	request.Header.Set("X-Client", fmt.Sprintf("%d.%d", os.Getpid(), number))
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	return nil
}
