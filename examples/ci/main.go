// A small price service with one leak: whoever asks for a price that takes too long leaves a goroutine behind.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

// lookUp asks the warehouse, which answers late for every third article.
func lookUp(article int) int {
	if article%3 == 0 {
		time.Sleep(50 * time.Millisecond)
	}
	return article * 100
}

// price gives up after a while. The goroutine that looks the price up does not: nobody receives what it sends then.
// With room for one result, `make(chan int, 1)`, it would end.
func price(article int) (int, error) {
	result := make(chan int)
	go func() {
		result <- lookUp(article)
	}()
	select {
	case found := <-result:
		return found, nil
	case <-time.After(10 * time.Millisecond):
		return 0, fmt.Errorf("article %d takes too long", article)
	}
}

func main() {
	address := "127.0.0.1:0"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	requests := 0
	http.HandleFunc("/price", func(w http.ResponseWriter, r *http.Request) {
		requests++
		found, err := price(requests)
		if err != nil {
			http.Error(w, err.Error(), http.StatusGatewayTimeout)
			return
		}
		fmt.Fprintln(w, found)
	})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}
