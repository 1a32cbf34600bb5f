package main

// grpc and the client of etcd, which uses it.

import (
	"context"
	"net"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func init() {
	mistake("grpc-connection", func() { callOnce(newConnection()) }, fixedConnection)
	mistake("grpc-stream", func() { watchOnce(ctx) }, fixedStream)
	mistake("etcd-client", func() { newEtcd() }, func() { newEtcd().Close() })
	healthy("grpc-shared", func() { callOnce(shared()) })
}

// A server with the health service of grpc.
var grpcAddress = sync.OnceValue(func() string {
	listener := value(net.Listen("tcp", "127.0.0.1:0"))
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	return listener.Addr().String()
})

func newConnection() *grpc.ClientConn {
	return value(grpc.NewClient(grpcAddress(), grpc.WithTransportCredentials(insecure.NewCredentials())))
}

var shared = sync.OnceValue(newConnection)

func callOnce(connection *grpc.ClientConn) {
	_, err := healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{})
	must(err)
}

func fixedConnection() {
	connection := newConnection()
	defer connection.Close()
	callOnce(connection)
}

// The first message of a stream is enough, but only the end of its context would end it.
func watchOnce(ctx context.Context) {
	stream, err := healthpb.NewHealthClient(shared()).Watch(ctx, &healthpb.HealthCheckRequest{})
	must(err)
	_, err = stream.Recv()
	must(err)
}

func fixedStream() {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchOnce(ctx)
}

var etcdAddress = sync.OnceValue(silentAddress)

func newEtcd() *clientv3.Client {
	return value(clientv3.New(clientv3.Config{Endpoints: []string{etcdAddress()}}))
}
