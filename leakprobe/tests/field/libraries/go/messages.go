package main

// nats and franz-go.

import (
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/twmb/franz-go/pkg/kgo"
)

func init() {
	mistake("nats-connection", func() { connect() }, func() { connect().Close() })
	mistake("nats-subscription", func() { listen() }, func() { must(listen().Unsubscribe()) })
	mistake("kafka-client", func() { newKafka() }, func() { newKafka().Close() })
	healthy("nats-shared", func() { must(sharedNats().Publish("orders", []byte("one"))) })
}

var natsServer = sync.OnceValue(func() string {
	nats := value(server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true}))
	go nats.Start()
	if !nats.ReadyForConnections(time.Minute) {
		panic("no server of nats")
	}
	return nats.ClientURL()
})

func connect() *nats.Conn { return value(nats.Connect(natsServer())) }

var sharedNats = sync.OnceValue(connect)

// Each subscription with a callback has a goroutine, until it is given up.
func listen() *nats.Subscription {
	subscription := value(sharedNats().Subscribe("orders", func(*nats.Msg) {}))
	must(sharedNats().Flush())
	return subscription
}

var kafkaAddress = sync.OnceValue(silentAddress)

func newKafka() *kgo.Client {
	return value(kgo.NewClient(kgo.SeedBrokers(kafkaAddress()), kgo.ConsumeTopics("orders")))
}
