package main

// WebSockets by gorilla and by coder, whose clients come from this process.

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	coder "github.com/coder/websocket"
	"github.com/gorilla/websocket"
)

func init() {
	mistake("gorilla-writer", func() { visit(leakServer()) }, func() { visit(fixedServer()) })
	mistake("gorilla-client", func() { dialEcho() }, func() { must(dialEcho().Close()) })
	mistake("coder-client", func() { dialCoder() }, func() { must(dialCoder().CloseNow()) })
	healthy("gorilla-sessions", func() { visit(fixedServer()) })
}

var upgrader websocket.Upgrader

func serverOf(handle http.HandlerFunc) func() string {
	return sync.OnceValue(func() string { return strings.Replace(httptest.NewServer(handle).URL, "http", "ws", 1) })
}

// Writes what is sent to a client, until there will be no more.
func write(connection *websocket.Conn, messages chan string) {
	defer connection.Close()
	for message := range messages {
		if connection.WriteMessage(websocket.TextMessage, []byte(message)) != nil {
			return
		}
	}
}

// A reader and a writer for each connection. When the client leaves the reader ends, and the writer is not told.
var leakServer = serverOf(func(w http.ResponseWriter, r *http.Request) {
	connection := value(upgrader.Upgrade(w, r, nil))
	messages := make(chan string, 1)
	messages <- "hello"
	go write(connection, messages)
	connection.ReadMessage()
})

var fixedServer = serverOf(func(w http.ResponseWriter, r *http.Request) {
	connection := value(upgrader.Upgrade(w, r, nil))
	messages := make(chan string, 1)
	defer close(messages)
	messages <- "hello"
	go write(connection, messages)
	connection.ReadMessage()
})

func dial(url string) *websocket.Conn {
	connection, _, err := websocket.DefaultDialer.Dial(url, nil)
	must(err)
	return connection
}

// A client that reads one message and leaves properly.
func visit(url string) {
	connection := dial(url)
	defer connection.Close()
	_, _, err := connection.ReadMessage()
	must(err)
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	must(connection.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second)))
}

var echoServer = serverOf(func(w http.ResponseWriter, r *http.Request) {
	connection := value(upgrader.Upgrade(w, r, nil))
	defer connection.Close()
	for {
		kind, message, err := connection.ReadMessage()
		if err != nil {
			return
		}
		connection.WriteMessage(kind, message)
	}
})

// A connection for one question that is kept open: so is its handler.
func dialEcho() *websocket.Conn {
	connection := dial(echoServer())
	must(connection.WriteMessage(websocket.TextMessage, []byte("hello")))
	_, _, err := connection.ReadMessage()
	must(err)
	open = append(open, connection)
	return connection
}

var open []*websocket.Conn

// The same by the other library.
func dialCoder() *coder.Conn {
	connection, _, err := coder.Dial(ctx, echoServer(), nil)
	must(err)
	must(connection.Write(ctx, coder.MessageText, []byte("hello")))
	_, _, err = connection.Read(ctx)
	must(err)
	coders = append(coders, connection)
	return connection
}

var coders []*coder.Conn
